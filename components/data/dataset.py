"""The dataset artifact: three Parquet files, the label names and a report, with a digest over the rows."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from predictor.errors import InputError
from predictor.label_matrix import label_matrix

SPLITS = ("train", "validation", "test")
COLUMNS = ["id", "text", "label"]
"""The columns that each row has, which come first."""
COLLECTED_FILE = "collected.json"
"""What the collect step says of the rows that it found, beside these."""
LABELS_FILE = "labels.json"
REPORT_FILE = "report.json"
FOLD = "fold"
"""The column of train rows that says which rows are held out together, where cross-validation was asked for."""


@dataclass(frozen=True)
class Split:
    """Rows of one split: columns `id`, `text`, `label`, and `source`, `collected_at` where they are known."""

    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def texts(self) -> list[str]:
        """The texts, as they were collected."""
        return self.frame["text"].tolist()

    @property
    def labels(self) -> list[str]:
        """The label names; of multi-label data the labels of each row, joined by `|`."""
        return self.frame["label"].tolist()

    def label_ids(self, names: Sequence[str]) -> list[int]:
        """The labels as positions in `names`."""
        position = {name: number for number, name in enumerate(names)}
        return [position[label] for label in self.labels]

    def label_matrix(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Return which of the labels `names` each row of multi-label data has, shape (rows, names)."""
        return label_matrix(self.labels, names)

    def sample(self, rows: int, seed: int) -> "Split":
        """Return at most `rows` rows in their old order, with each class in proportion; 0 means all.

        Of multi-label data, the rows with the same labels count as a class.

        Every class keeps at least one row, if `rows` is not below the number of classes; otherwise the most common
        classes are kept.
        """
        if not rows or rows >= len(self):
            return self
        _, numbers, counts = np.unique(self.frame["label"], return_inverse=True, return_counts=True)
        shuffled = np.random.default_rng(seed).permutation(len(self))
        by_class = shuffled[np.argsort(numbers[shuffled], kind="stable")]
        starts = np.cumsum(counts) - counts
        place = np.arange(len(self)) - np.repeat(starts, counts)
        kept = by_class[place < np.repeat(_shares(counts, rows), counts)]
        return Split(self.frame.iloc[np.sort(kept)])


def _shares(counts: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Return how many of `rows` rows each class gets: in proportion, by largest remainder, but at least one.

    Args:
        counts: rows of each class, 1 or more.
        rows: fewer than there are in all; if below the number of classes, the most common classes get one each.
    """
    shares = np.zeros_like(counts)
    if rows <= len(counts):
        shares[np.argsort(-counts, kind="stable")[:rows]] = 1
        return shares
    rare, left, total = np.zeros(len(counts), dtype=bool), rows, int(counts.sum())
    # A class whose share is below one row gets one row. That makes the shares of the others smaller, so look again.
    while (found := ~rare & (counts * left < total)).any():
        rare |= found
        left, total = rows - int(rare.sum()), int(counts[~rare].sum())
    # With integers: a quotient of floats may be rounded to the wrong side of a whole number.
    quotas, remainders = np.divmod(counts[~rare] * left, total)
    quotas[np.argsort(-remainders, kind="stable")[: left - int(quotas.sum())]] += 1
    shares[rare], shares[~rare] = 1, quotas
    return shares


@dataclass(frozen=True)
class Dataset:
    """What `prepare` makes and every later step reads."""

    train: Split
    validation: Split
    test: Split
    labels: list[str]
    report: dict[str, Any]

    @property
    def ordinal(self) -> bool:
        """Whether the labels are steps from the lowest to the highest."""
        return bool(self.report.get("ordinal"))

    @property
    def multi_label(self) -> bool:
        """Whether a row has any number of labels, which stand in its column `label` joined by `|`."""
        return bool(self.report.get("multi_label"))

    @property
    def digest(self) -> str:
        """SHA-256 over ids, texts and labels of all splits; the same rows give the same digest on any machine."""
        return str(self.report["sha256"])

    def save(self, folder: Path) -> None:
        """Write the artifact."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in SPLITS:
            getattr(self, name).frame.to_parquet(folder / f"{name}.parquet", index=False)
        save_notes(folder, self.labels, self.report)

    @classmethod
    def load(cls, folder: Path) -> "Dataset":
        """Read the artifact.

        Raises:
            InputError: a part is missing or unreadable.
        """
        try:
            splits = {name: Split(pd.read_parquet(folder / f"{name}.parquet")) for name in SPLITS}
            labels = json.loads((folder / LABELS_FILE).read_text())
            report = json.loads((folder / REPORT_FILE).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} is no dataset artifact ({error}): run the prepare step again") from error
        return cls(splits["train"], splits["validation"], splits["test"], labels, report)


def save_notes(folder: Path, labels: Sequence[str], report: Mapping[str, Any]) -> None:
    """Write what an artifact has beside its rows: the label names and the report."""
    (folder / LABELS_FILE).write_text(json.dumps(labels, ensure_ascii=False, indent=2))
    (folder / REPORT_FILE).write_text(json.dumps(report, ensure_ascii=False, indent=2))


class Digest:
    """The SHA-256 over the rows of each split in order, taken up a chunk at a time."""

    def __init__(self) -> None:
        self._total = hashlib.sha256()

    def begin(self, split: str, rows: int) -> None:
        """Begin a split of so many rows."""
        self._total.update(f"{split} {rows}\n".encode())

    def add(self, chunk: pd.DataFrame) -> None:
        """Take up the next rows of the split; only id, text and label count."""
        for row in chunk[COLUMNS].itertuples(index=False):
            self._total.update(json.dumps(list(row), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")

    def hexdigest(self) -> str:
        """Return the digest of what was taken up."""
        return self._total.hexdigest()


def digest_of(splits: dict[str, pd.DataFrame]) -> str:
    """Return the SHA-256 over the rows of each split in order."""
    total = Digest()
    for name in SPLITS:
        total.begin(name, len(splits[name]))
        total.add(splits[name])
    return total.hexdigest()
