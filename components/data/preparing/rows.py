"""All rows as a compact table: what decides about a row takes less than a hundred bytes, and its text stays on disk."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.data.damage import damaged
from components.data.dataset import FOLD
from components.data.preparing.chunks import CHUNK, Chunks, check_schema
from components.data.preparing.label_sets import LabelSets
from components.data.preparing.scratch import Scratch
from components.data.preparing.settings import GROUP, RANDOM, TIME, Checks, SplitRule
from components.platform.progress import Progress
from predictor.errors import InputError
from predictor.label_sets import joined, parted
from predictor.model.text import Cleaning, clean

_KEY = Cleaning(lowercase=True)
_PLAIN = Cleaning(markup=False, lowercase=True)
_MARKUP = r"[<&;\\]"  # a text without these has nothing that cleaning takes for markup
# A number up to this is a year; a greater one is seconds since 1970.
_LAST_YEAR = 9999


class Fate(IntEnum):
    """Whether a row is kept, or why it is left out."""

    KEPT = 0
    NO_TEXT = 1
    NO_LABEL = 2
    OVER_LONG = 3
    DAMAGED = 4
    SYNTHETIC = 5
    NO_TIME = 6
    UNKNOWN_LABEL = 7
    WITHHELD = 8
    COPY = 9
    CONFLICT = 10
    SAME_TEXT = 11
    NEAR = 12
    SAME_GROUP = 13

    @property
    def words(self) -> str:
        """The reason, as reports have it."""
        return _WORDS[self]


_WORDS = {
    Fate.KEPT: "kept",
    Fate.NO_TEXT: "no text",
    Fate.NO_LABEL: "no label",
    Fate.OVER_LONG: "over-long text",
    Fate.DAMAGED: "encoding damage",
    Fate.SYNTHETIC: "synthetic, and not for train",
    Fate.NO_TIME: "no time",
    Fate.UNKNOWN_LABEL: "label that train lacks",
    Fate.WITHHELD: "all labels of the split are withheld",
    Fate.COPY: "copy of another train row",
    Fate.CONFLICT: "same text under two labels",
    Fate.SAME_TEXT: "same text in a held-out split",
    Fate.NEAR: "near-copy in a held-out split",
    Fate.SAME_GROUP: "same group in a held-out split",
}
REJECTED = range(Fate.NO_TEXT, Fate.WITHHELD + 1)
"""The fates of rows that cannot be used, whatever the other rows are."""


@dataclass
class Rows:
    """Columns of equal length with a cell for each row, split after split in the order of `names`."""

    names: list[str]
    """The splits that were given."""
    labels: list[str]
    """All label names, sorted; of multi-label data all sets of labels, each a text."""
    given: NDArray[np.int8]
    """The split that the row was given in, as a position in `names`."""
    label: NDArray[np.int32]
    """A position in `labels`; -1 for none."""
    text: NDArray[np.int64]
    """The number of the cleaned text: the same where the texts are, ignoring case, markup and white space."""
    plain: NDArray[np.uint64]
    """A hash of the text cleaned but for its markup."""
    id: NDArray[np.uint64]
    """A hash of the id that was given; 0 for none."""
    synthetic: NDArray[np.bool_]
    value: NDArray[np.float64] | NDArray[np.uint64]
    """The time in seconds since 1970, NaN for none, or a hash of the group, 0 for none; 0 without such a rule."""
    fate: NDArray[np.uint8]
    split: NDArray[np.int8]
    """The split that the row goes to, as a position in SPLITS."""
    fixed: NDArray[np.bool_]
    """Rows that stay, whatever is found out about them."""
    fold: NDArray[np.int8]
    """The fold of a train row for cross-validation; -1 for none."""
    sets: LabelSets | None = None
    """Of multi-label data, which labels the entries of `labels` have."""

    @property
    def classes(self) -> list[str]:
        """What rows are told apart by: the label names, of multi-label data, too."""
        return self.labels if self.sets is None else self.sets.names

    def __len__(self) -> int:
        return len(self.given)

    def kept(self, split: int) -> NDArray[np.int64]:
        """Return the numbers of the rows that are kept in a split."""
        return np.flatnonzero((self.fate == Fate.KEPT) & (self.split == split))

    def drop(self, rows: NDArray[np.int64], fate: Fate) -> int:
        """Leave these rows out, and return how many; a row that is fixed stays."""
        rows = rows[~self.fixed[rows]]
        self.fate[rows] = fate
        return len(rows)

    def class_counts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many of these rows, which have labels, each class has."""
        counts = np.bincount(self.label[rows], minlength=len(self.labels))
        return counts if self.sets is None else self.sets.counts(counts)

    def members(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each pair of a place among these rows and a class of the row there."""
        if self.sets is None:
            return np.arange(len(rows)), self.label[rows].astype(np.int64)
        return self.sets.members(self.label[rows])

    def of_classes(self, rows: NDArray[np.int64], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return whether all classes of each of these rows are among those that are known."""
        good = known if self.sets is None else self.sets.within(known)
        return good[self.label[rows]]

    def keep_labels(self, kept: NDArray[np.int32]) -> None:
        """Forget all classes but these; rows with another one have no label from now on."""
        into = np.full(len(self.labels) + 1, -1, dtype=np.int32)
        if self.sets is None:
            into[kept] = np.arange(len(kept))
            self.labels = [self.labels[label] for label in kept]
        else:
            self.sets, left = self.sets.keep(kept)
            into[left] = np.arange(len(left))
            self.labels = self.sets.written()
        self.label = into[self.label]

    def count(self, fate: Fate, split: int) -> int:
        """Return how many rows of a split have this fate."""
        return int(((self.fate == fate) & (self.split == split)).sum())


def scan(
    sources: dict[str, Chunks], checks: Checks, rule: SplitRule, scratch: Scratch, multi_label: bool = False
) -> Rows:
    """Read all rows once: check, clean and hash them.

    Args:
        sources: the rows of each split; train first.
        checks: has the length from which a text is rejected.
        rule: names the column of times or groups.
        scratch: gets the cleaned texts.
        multi_label: whether a label is any number of labels, joined by `|`.

    Raises:
        InputError: a column is missing or of a wrong type.
    """
    numbers: dict[str, int] = {}
    parts: list[dict[str, NDArray[np.generic]]] = []
    total = sum(source.rows for source in sources.values())
    progress = Progress("clean", total, "rows")
    done = 0
    for given, (name, source) in enumerate(sources.items()):
        if rule.by != RANDOM and rule.column not in source.columns:
            raise InputError(
                f"{name} has no column '{rule.column}' to split by {rule.by} (it has: {', '.join(source.columns)}): "
                "name one of them, and keep it when the rows are collected"
            )
        if rule.folds and FOLD in source.columns:
            raise InputError(f"{name} has a column '{FOLD}', which cross-validation would write: rename it")
        place = 0
        for chunk in source.read():
            check_schema(chunk, name, place)
            if multi_label:
                chunk = chunk.assign(label=[joined(sorted(parted(text))) for text in chunk["label"].fillna("")])
            part = _columns(chunk, name, place, checks, rule, numbers, scratch, multi_label)
            rows = len(chunk)
            part["given"] = np.full(rows, given, dtype=np.int8)
            parts.append(part)
            place += rows
            done += rows
            if total > CHUNK:
                progress(done)
    if not parts:
        raise InputError("train has no labelled rows: a classifier needs rows of at least two classes")
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    parts.clear()
    labels = sorted(numbers)
    sorted_number = np.empty(len(labels) + 1, dtype=np.int32)
    sorted_number[[numbers[label] for label in labels]] = np.arange(len(labels))
    sorted_number[-1] = -1  # no label is -1, the last position
    label, key = sorted_number[table.pop("label")], table.pop("key")
    split, fixed, fold = np.zeros(len(label), np.int8), np.zeros(len(label), bool), np.full(len(label), -1, np.int8)
    text = _numbered(key)
    sets = LabelSets.of(labels) if multi_label else None
    return Rows(list(sources), labels, label=label, text=text, split=split, fixed=fixed, fold=fold, sets=sets, **table)


def _columns(
    chunk: pd.DataFrame,
    name: str,
    place: int,
    checks: Checks,
    rule: SplitRule,
    numbers: dict[str, int],
    scratch: Scratch,
    blank_counts: bool,
) -> dict[str, NDArray[np.generic]]:
    """Return the columns of a chunk; with `blank_counts` a row without a label is one of the class of no label."""
    texts = chunk["text"].fillna("").tolist()
    keys = [clean(text, _KEY) for text in texts]
    scratch.write(chunk, name, place, keys)
    labels = chunk["label"].fillna("").str.strip() if len(chunk) else chunk["label"]
    known, uniques = pd.factorize(labels)
    into = np.array(
        [numbers.setdefault(label, len(numbers)) if label or blank_counts else -1 for label in uniques], dtype=np.int32
    )
    synthetic = chunk["synthetic"].to_numpy(bool) if "synthetic" in chunk else np.zeros(len(chunk), dtype=bool)
    value = _values(chunk, rule)
    key = _hashes(keys)
    label = into[known] if len(into) else np.empty(0, dtype=np.int32)
    fate = np.zeros(len(chunk), dtype=np.uint8)
    wrong = {
        Fate.NO_TEXT: np.array([not text for text in keys], dtype=bool),
        Fate.NO_LABEL: label < 0,
        Fate.OVER_LONG: np.array([len(text) > checks.max_characters for text in texts], dtype=bool),
        Fate.DAMAGED: damaged(texts),
        Fate.SYNTHETIC: synthetic & (name in ("validation", "test")),
        Fate.NO_TIME: np.isnan(value) if rule.by == TIME else np.zeros(len(chunk), dtype=bool),
    }
    for reason, rows in reversed(wrong.items()):  # the first that holds is the one that is said
        fate[rows] = reason
    return {
        "label": label, "key": key, "plain": _plain(texts, key), "id": _id_hashes(chunk), "synthetic": synthetic,
        "value": value, "fate": fate,
    }  # fmt: skip


def _hashes(keys: Sequence[str]) -> NDArray[np.uint64]:
    """Return a row of two numbers for each text: a 128-bit hash, so that equal hashes mean equal texts."""
    digests = [hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest() for key in keys]
    return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2)


def _plain(texts: list[str], key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    plain = key[:, 0].copy()
    marked = np.flatnonzero(pd.Series(texts, dtype=object).str.contains(_MARKUP)) if texts else np.empty(0, dtype=int)
    if len(marked):
        cleaned = [clean(texts[row], _PLAIN) for row in marked]
        plain[marked] = np.where([bool(text) for text in cleaned], _hashes(cleaned)[:, 0], _hashes([""])[0, 0])
    return plain


EMPTY = _hashes([""])[0, 0]
"""The hash, in `plain`, of a text of which nothing is left."""


def _id_hashes(chunk: pd.DataFrame) -> NDArray[np.uint64]:
    if "id" not in chunk:
        return np.zeros(len(chunk), dtype=np.uint64)
    return _text_hashes(chunk["id"])


def _text_hashes(column: "pd.Series[str]") -> NDArray[np.uint64]:
    """Return a 64-bit hash of each cell, 0 where there is none."""
    hashes = pd.util.hash_pandas_object(column.map(str, na_action="ignore"), index=False).to_numpy(np.uint64)
    return np.where(column.isna(), np.uint64(0), hashes | np.uint64(1 << 63))


def _values(chunk: pd.DataFrame, rule: SplitRule) -> NDArray[np.float64] | NDArray[np.uint64]:
    if rule.by == GROUP:
        return _text_hashes(chunk[rule.column])
    return _seconds(chunk[rule.column]) if rule.by == TIME else np.zeros(len(chunk), dtype=np.float64)


def _seconds(column: "pd.Series[str]") -> NDArray[np.float64]:
    """Return times as seconds since 1970: from ISO 8601 and what pandas reads, or from such seconds; NaN for others."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    dates = pd.to_datetime(column.astype(object), errors="coerce", utc=True, format="mixed")
    seconds = (dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(np.float64)
    return np.where(numbers > _LAST_YEAR, numbers, seconds)


def _numbered(key: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number distinct rows of a table of two columns."""
    order = np.lexsort((key[:, 1], key[:, 0]))
    ordered = key[order]
    new = np.ones(len(key), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    numbers = np.empty(len(key), dtype=np.int64)
    numbers[order] = np.cumsum(new) - 1
    return numbers
