"""Rows that are made: how many are wanted, which are new, and the file that holds them."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from components.data.dataset import SPLITS, Dataset
from predictor.errors import InputError
from predictor.files import whole
from predictor.model.text import Cleaning, clean

ROWS_FILE, REPORT_FILE = "train.jsonl", "synthetic.json"


def key_of(text: str) -> str:
    """Return what two texts have in common that prepare takes for copies; empty if nothing is left of a text."""
    return clean(text, Cleaning(lowercase=True))


def wanted(dataset: Dataset, target: int) -> dict[str, int]:
    """Return how many rows are to be made for each class that has fewer train rows than the target.

    Args:
        dataset: the prepared rows.
        target: rows a class; 0 for the median of the classes.

    Raises:
        InputError: rows have any number of labels.
    """
    if dataset.multi_label:
        raise InputError("rows are made class by class, and here a row has any number of labels: add real rows of them")
    counts = Counter(dataset.train.labels)
    goal = target or int(median(counts[label] for label in dataset.labels))
    return {label: goal - counts[label] for label in dataset.labels if counts[label] < goal}


def real_texts(dataset: Dataset) -> dict[str, list[str]]:
    """Return the train texts of each class that were not made themselves, in their order."""
    train = dataset.train.frame
    made = train["synthetic"].astype(bool) if "synthetic" in train.columns else [False] * len(train)
    texts: dict[str, list[str]] = {label: [] for label in dataset.labels}
    for text, label, synthetic in zip(train["text"], train["label"], made, strict=True):
        if not synthetic:
            texts[label].append(text)
    return texts


@dataclass
class MadeRows:
    """What was made so far; a text that is in any split, or was made before, is no new row."""

    source: str
    known: set[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)

    @classmethod
    def beside(cls, dataset: Dataset, source: str) -> "MadeRows":
        """Begin beside the rows of a dataset."""
        return cls(source, {key_of(text) for name in SPLITS for text in getattr(dataset, name).texts})

    def add(self, text: str, label: str) -> bool:
        """Take a text, unless it says nothing or is known; return whether it was taken."""
        key = key_of(text)
        if not key or key in self.known:
            self.rejected["copy of a row" if key else "empty"] += 1
            return False
        self.known.add(key)
        identity = hashlib.sha256(f"{label}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self.rows.append({"id": identity, "text": text, "label": label, "source": self.source, "synthetic": True})
        self.counts[label] += 1
        return True

    def save(self, folder: Path, needed: dict[str, int], more: dict[str, Any]) -> dict[str, Any]:
        """Write `train.jsonl` and the report `synthetic.json`, and return the report.

        Args:
            folder: where to.
            needed: rows that were wanted of each class.
            more: parts of the report.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with whole(folder / ROWS_FILE) as file:
            _write_lines(file, ({**row, "collected_at": now} for row in self.rows))
        short = {label: rows - self.counts[label] for label, rows in needed.items() if self.counts[label] < rows}
        report = {
            "rows": len(self.rows), "rows_by_label": dict(self.counts), "missing": short,
            "rejected": dict(self.rejected), **more, "file": str(folder / ROWS_FILE),
        }  # fmt: skip
        with whole(folder / REPORT_FILE) as file:
            file.write_text(json.dumps(report, ensure_ascii=False, indent=2), encoding="utf-8")
        return report


def new_folder(folder: Path) -> None:
    """Make the folder for the rows.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}): give another --out") from error


def _write_lines(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    with file.open("w", encoding="utf-8", errors="replace") as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def runs(text: str, length: int = 5) -> set[str]:
    """Return the runs of characters of a text as prepare compares it; of a shorter text the text itself."""
    key = key_of(text)
    return {key[start : start + length] for start in range(max(1, len(key) - length + 1))}


def echoes(text: str, examples: Sequence[str], share: float = 0.6) -> bool:
    """Return whether a text repeats one of the examples, or one of them this text.

    It does if of the shorter one's runs of five characters at least this share is in the other: an example with a
    sentence more, or with a word exchanged, is one.
    """
    own = runs(text)
    return any(len(own & other) >= share * min(len(own), len(other)) for other in map(runs, examples) if other != {""})
