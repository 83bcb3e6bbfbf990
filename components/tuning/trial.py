"""One trial of a search, as a process: fine-tunes, scores the validation split, prints the metrics.

`python -m components.tuning.trial --data DATASET --learning-rate 0.0001 ...` is what a Katib trial runs in its pod and
what the local runner starts. Katib's collector reads `name=value` lines from stdout, one a metric and epoch.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from components.data.dataset import Dataset
from components.platform.storage import download, is_remote
from components.platform.termination import one_sentence
from components.training.backbone import EMBEDDED, resolve_backbone
from components.training.recipe import PROFILES, TUNABLE, Epoch, recipe_for, training_rows


def parser() -> argparse.ArgumentParser:
    """Return the parser of the trial's arguments: one flag for each hyper-parameter, and what to train on."""
    made = argparse.ArgumentParser(prog="python -m components.tuning.trial", allow_abbrev=False)
    made.add_argument("--data", required=True, help="a dataset artifact: a folder or an address such as s3://...")
    made.add_argument("--backbone", default=EMBEDDED)
    made.add_argument("--profile", default=PROFILES[0])
    made.add_argument("--max-length", type=int, default=128)
    made.add_argument("--seed", type=int, default=42)
    for name in TUNABLE:
        # Text: the recipe reads numbers, and says what is wrong with one, in one place.
        made.add_argument(f"--{name.replace('_', '-')}", help="default: the recipe's")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the trial."""
    given = vars(parser().parse_args(arguments))
    with one_sentence():
        run(
            given["data"], given["backbone"], given["profile"], given["max_length"], given["seed"],
            {name: given[name] for name in TUNABLE if given[name] is not None},
        )  # fmt: skip


def run(data: str, backbone: str, profile: str, max_length: int, seed: int, assignments: dict[str, str]) -> None:
    """Fine-tune with the assigned hyper-parameters and print each epoch's validation metrics.

    The test split plays no part: it is for the one model that comes out of the search.

    Raises:
        InputError: no dataset there, an unknown name or a value out of range, a backbone that cannot be had.
    """
    rows = training_rows(profile)
    recipe_for(profile, 1, max_length).assigned(assignments)  # a bad value is told before anything slow
    from components.training.fine_tuning.fine_tune import fine_tune

    with tempfile.TemporaryDirectory() as work:
        dataset = Dataset.load(download(data, Path(work) / "dataset") if is_remote(data) else Path(data))
        train = dataset.train.sample(rows, seed)
        recipe = recipe_for(profile, len(train), max_length).assigned(assignments)
        weights = Path(work) / "checkpoint"
        fine_tune(
            resolve_backbone(backbone), train, dataset.validation, dataset.labels, recipe, weights, seed, print_metrics
        )


def print_metrics(epoch: Epoch) -> None:
    """Print what Katib's collector reads."""
    print(f"validation_loss={epoch.validation_loss:.6f}")
    # Last, as early stopping looks at it: a trial that is ended here has printed both.
    print(f"validation_accuracy={epoch.validation_accuracy:.6f}", flush=True)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    main()
