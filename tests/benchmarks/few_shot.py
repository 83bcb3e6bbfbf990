"""Few labels: eight a class, over ten draws, on all test rows.

    make bench-few-shot DATA=path/to/folder

SetFit's figure beside ours is the one its authors published for AG News and the same MiniLM-L6 backbone.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

from components.data.collect import collect_frames
from components.data.dataset import Dataset, Split
from components.data.prepare import prepare
from components.training.backbone import resolve_backbone
from components.training.few_shot.head import fit_head
from components.training.fine_tuning.model import score
from components.training.fine_tuning.precision import choose_precision
from components.training.recipe import Recipe
from predictor.model.text import Encoder
from tests.benchmarks.table import publish, row

# huggingface/setfit, final_results: AG News, 8 labels a class, mean of 10 splits.
SETFIT = 83.1
MAX_LENGTH = 128


def accuracy(backbone: Path, data: Dataset, labels_a_class: int, seed: int) -> float:
    """Return the test accuracy, in percent, after one draw."""
    drawn = Split(data.train.frame.groupby("label").sample(labels_a_class, random_state=seed))
    recipe = Recipe(epochs=1, max_length=MAX_LENGTH, method="few-shot")
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        fit_head(backbone, drawn, drawn, data.labels, recipe, Path(scratch), seed)
        model = AutoModelForSequenceClassification.from_pretrained(scratch)
    ids = Encoder(backbone, MAX_LENGTH)(data.test.texts)
    precision = choose_precision(model)
    model.to(precision.device)
    _, right, *_ = score(model, ids, data.test.label_ids(data.labels), 0, precision)
    return 100 * right / len(ids)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description="Accuracy with few labels.")
    parser.add_argument("--data", default="sample", help="as for pigeonhole run")
    parser.add_argument("--labels", type=int, default=8, help="a class")
    parser.add_argument("--draws", type=int, default=10)
    asked = parser.parse_args()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    data = prepare(collect_frames(asked.data), 42)
    backbone = resolve_backbone("minilm")
    figures: list[float] = []
    for seed in range(asked.draws):
        started = time.monotonic()
        figures.append(accuracy(backbone, data, asked.labels, seed))
        print(f"draw {seed + 1} of {asked.draws}: {figures[-1]:.2f}% in {time.monotonic() - started:.0f} s", flush=True)
    mean = statistics.mean(figures)
    spread = statistics.stdev(figures) if asked.draws > 1 else 0.0
    what = f"test accuracy, {asked.labels} labels a class, mean of {asked.draws} draws"
    publish(
        "few-shot",
        [
            row(what, "%", mean, SETFIT, "SetFit as published for AG News", goal=83.0),
            row("standard deviation over the draws", "%", spread),
        ],
    )


if __name__ == "__main__":
    main()
