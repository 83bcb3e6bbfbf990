"""Fine-tuning, ours against `transformers.Trainer`: the same rows, backbone and epochs in one run.

    make bench-train                      # on the embedded sample
    make bench-train DATA=path/to/folder  # on real news

Speed is texts a second of the training loop alone, tokenising and scoring left out for all; medians of interleaved
rounds on the same rows (the recipe that pads to 512 gets fewer of them, drawn in the same way). Accuracy is that of one
epoch on the same rows, on the test rows. The recipe that pads to 512 is not trained to the end: padding is masked, so
its accuracy is that of the same batches padded to their longest text, which is the `Trainer` as commonly set.
"""

import argparse
import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.data.collect import collect_frames
from components.data.dataset import Dataset, Split
from components.data.prepare import prepare
from components.training.backbone import resolve_backbone

# isort: split
# Above: the package of training has to be loaded before torch, to set how torch's threads wait.
import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging

from components.training.fine_tuning.fine_tune import fine_tune
from components.training.fine_tuning.model import load_classifier, score
from components.training.fine_tuning.precision import TrainingPrecision, choose_precision
from components.training.recipe import Recipe
from predictor.model.text import Encoder
from tests.benchmarks.table import Row, publish, row
from tests.benchmarks.work import Shape

SEED = 42
MAX_LENGTH = 128
ROUNDS = 3
# Rows of a timed round; those of the slow recipe are a stratified part of them.
ROUND_ROWS, SLOW_ROWS = 960, 64


@dataclass(frozen=True)
class Settings:
    """How a Trainer is set."""

    name: str
    batch: int
    rate: float
    bf16: bool
    grouped: bool
    padded_to: int = 0
    """Every text to this length; 0: to the longest of its batch."""


REFERENCE = Settings("batch 16, padded to 512, fp32", 16, 2e-5, bf16=False, grouped=False, padded_to=512)
COMMON = Settings("Trainer: padded to the longest, grouped by length, fp32", 16, 5e-5, bf16=False, grouped=True)
# The best of these on this machine, in the precision that it has, is the peer for the third ratio.
TUNED = ((8, 3.5e-5), (16, 5e-5), (32, 7e-5))


class _Rows(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, ids: list[list[int]], classes: list[int], padded_to: int, pad_id: int) -> None:
        self._ids, self._classes = ids, classes
        self._padded_to, self._pad_id = padded_to, pad_id

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids = self._ids[index]
        blank = max(0, self._padded_to - len(ids))
        return {
            "input_ids": ids + [self._pad_id] * blank,
            "attention_mask": [1] * len(ids) + [0] * blank,
            "labels": self._classes[index],
            "length": len(ids),
        }


def with_trainer(backbone: Path, train: Split, labels: list[str], settings: Settings) -> tuple[Any, float]:
    """Train one epoch; return (model, texts a second)."""
    torch.manual_seed(SEED)
    model = AutoModelForSequenceClassification.from_pretrained(backbone, num_labels=len(labels))
    tokenizer = AutoTokenizer.from_pretrained(backbone, local_files_only=True)
    ids = Encoder(backbone, MAX_LENGTH)(train.texts)
    rows = _Rows(ids, train.label_ids(labels), settings.padded_to, int(tokenizer.pad_token_id))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model,
            TrainingArguments(
                scratch, num_train_epochs=1, per_device_train_batch_size=settings.batch, learning_rate=settings.rate,
                weight_decay=0.01, bf16=settings.bf16, seed=SEED,
                use_cpu=not torch.cuda.is_available(), save_strategy="no", logging_strategy="no",
                report_to="none", disable_tqdm=True,
                train_sampling_strategy="group_by_length" if settings.grouped else "random",
            ),
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer),
        )  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            seconds = trainer.train().metrics["train_runtime"]
    return model, len(rows) / seconds


def with_ours(backbone: Path, train: Split, labels: list[str], scratch: Path) -> tuple[Any, float]:
    """Train one epoch; return (model, texts a second)."""
    recipe = Recipe(epochs=1, max_length=MAX_LENGTH)
    few = Split(train.frame.iloc[:8])  # validation is not what is timed
    with contextlib.redirect_stdout(io.StringIO()):
        history = fine_tune(backbone, train, few, labels, recipe, scratch, SEED)
    return AutoModelForSequenceClassification.from_pretrained(scratch), history[0].texts_per_second


def measured_peak(precision: TrainingPrecision, size: int = 2048, seconds: float = 2.0) -> float:
    """Return the best matrix rate of this machine in FLOP/s, in the precision, over products of size cubed."""
    dtype = torch.bfloat16 if precision.name == "bf16" else torch.float32
    left, right = (torch.randn(size, size, dtype=dtype, device=precision.device) for _ in range(2))
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        left @ right
        if precision.device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def accuracy_of(model: Any, data: Dataset, backbone: Path) -> float:
    """Return the accuracy on the test rows, a share of 1."""
    precision = choose_precision(model)
    model.to(precision.device)
    ids = Encoder(backbone, MAX_LENGTH)(data.test.texts)
    _, right, *_ = score(model, ids, data.test.label_ids(data.labels), 0, precision)
    return right / len(ids)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", default="sample", help="as for pigeonhole run")
    parser.add_argument("--rows", type=int, default=3000, help="rows to train on for the accuracy")
    asked = parser.parse_args()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    data = prepare(collect_frames(asked.data), SEED)
    backbone = resolve_backbone("minilm")
    timed = data.train.sample(ROUND_ROWS, SEED)
    slow = timed.sample(SLOW_ROWS, SEED)
    precision = choose_precision(load_classifier(backbone, data.labels))
    fast = precision.name
    tuned = [
        Settings(f"Trainer: grouped, {fast}, batch {size}", size, rate, fast == "bf16", grouped=True)
        for size, rate in TUNED
    ]
    rates = _speeds(backbone, data, timed, slow, tuned)
    best = max(tuned, key=lambda settings: statistics.median(rates[settings.name]))
    rows = _speed_rows(rates, best)
    lengths = [len(ids) for ids in Encoder(backbone, MAX_LENGTH)(timed.texts)]
    peak = measured_peak(precision)
    # Learning from a text takes it forward, and twice that backward; only the first token of the last layer answers.
    shape = Shape.of(backbone)
    used = 3 * statistics.mean(shape.first_token(length) for length in lengths) * rows[0].ours
    rows.append(row("share of the measured matrix peak", f"of {peak / 1e9:,.0f} GFLOP/s", used / peak, goal=0.5))
    rows.append(beside_a_busy_loop(backbone, timed, data.labels))
    rows += _accuracy_rows(backbone, data, data.train.sample(asked.rows, SEED), best)
    publish("train", rows)


def _speeds(backbone: Path, data: Dataset, timed: Split, slow: Split, tuned: list[Settings]) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {}

    def note(name: str, measure: Callable[[], tuple[Any, float]]) -> None:
        _, rate = measure()
        rates.setdefault(name, []).append(rate)
        print(f"  {rate:7.1f} texts/s  {name}", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        for number in range(ROUNDS):
            print(f"round {number + 1} of {ROUNDS}, {len(timed)} rows ({len(slow)} padded to 512)", flush=True)
            note("ours", lambda: with_ours(backbone, timed, data.labels, Path(scratch)))
            for settings in (COMMON, *tuned):
                note(settings.name, lambda chosen=settings: with_trainer(backbone, timed, data.labels, chosen))  # type: ignore[misc]
            note(REFERENCE.name, lambda: with_trainer(backbone, slow, data.labels, REFERENCE))
    return rates


def beside_a_busy_loop(backbone: Path, train: Split, labels: list[str]) -> Row:
    """Return the speed beside a process that keeps a core busy, as a share of the speed without; rounds of both."""
    print(f"beside a busy loop: {ROUNDS} rounds of {len(train)} rows", flush=True)
    alone, beside = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(ROUNDS):
            alone.append(with_ours(backbone, train, labels, Path(scratch))[1])
            with _busy_loop():
                beside.append(with_ours(backbone, train, labels, Path(scratch))[1])
            print(f"  {alone[-1]:7.1f} texts/s alone, {beside[-1]:.1f} beside a busy loop", flush=True)
    share = statistics.median(slow / fast for slow, fast in zip(beside, alone, strict=True))
    name = "the same without a neighbour"
    ours, peer = statistics.median(beside), statistics.median(alone)
    return row("training beside a busy loop", "texts/s", ours, peer, name, value=share, goal=0.45)


@contextlib.contextmanager
def _busy_loop() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as loop:
        try:
            yield
        finally:
            loop.kill()


def _speed_rows(rates: dict[str, list[float]], best: Settings) -> list[Row]:
    rows = []
    for name, goal in ((REFERENCE.name, 18.0), (COMMON.name, 2.0), (best.name, 1.3)):
        ratio = statistics.median(mine / theirs for mine, theirs in zip(rates["ours"], rates[name], strict=True))
        ours, peer = statistics.median(rates["ours"]), statistics.median(rates[name])
        rows.append(row("training speed", "texts/s", ours, peer, name, value=ratio, goal=goal))
    return rows


def _accuracy_rows(backbone: Path, data: Dataset, train: Split, best: Settings) -> list[Row]:
    print(f"accuracy: one epoch on {len(train):,} rows, {len(data.test):,} test rows", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        model, _ = with_ours(backbone, train, data.labels, Path(scratch))
        ours = accuracy_of(model, data, backbone)
    print(f"  {ours:.2%}  ours", flush=True)
    rows = []
    as_reference = replace(REFERENCE, name=f"{REFERENCE.name} (the same batches, less padding)", padded_to=0)
    for settings in (as_reference, COMMON, best):
        model, _ = with_trainer(backbone, train, data.labels, settings)
        peer = accuracy_of(model, data, backbone)
        print(f"  {peer:.2%}  {settings.name}", flush=True)
        points = 100 * (ours - peer)
        rows.append(
            row(
                "test accuracy, difference in points",
                "%",
                100 * ours,
                100 * peer,
                settings.name,
                value=points,
                goal=-0.3,
            )
        )
    return rows


if __name__ == "__main__":
    np.random.seed(SEED)
    main()
