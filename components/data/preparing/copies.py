"""Exact copies: of a text in train, under two labels, and across splits."""

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import SPLITS
from components.data.preparing.rows import Fate, Rows

TRAIN, VALIDATION, TEST = map(SPLITS.index, ("train", "validation", "test"))
LEAKS = ((VALIDATION, TEST), (TRAIN, TEST), (TRAIN, VALIDATION))
"""Which split loses rows that another has, in the order in which it is done: test never loses any."""


def drop_copies(rows: Rows) -> None:
    """Keep one train row of each text, and none if their labels differ; synthetic rows yield to real ones."""
    train = rows.kept(TRAIN)
    real = ~rows.synthetic[train]
    known = np.zeros(rows.text.max(initial=0) + 1, dtype=bool)
    known[rows.text[train[real]]] = True
    rows.drop(train[~real & known[rows.text[train]]], Fate.COPY)
    train = rows.kept(TRAIN)
    rows.drop(train[_with_two_labels(rows.text[train], rows.label[train])], Fate.CONFLICT)
    train = rows.kept(TRAIN)
    rows.drop(np.delete(train, np.unique(rows.text[train], return_index=True)[1]), Fate.COPY)


def _with_two_labels(text: NDArray[np.int64], label: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return whether a row's text has more than one label."""
    order = np.lexsort((label, text))
    texts, labels = text[order], label[order]
    differs = (texts[1:] == texts[:-1]) & (labels[1:] != labels[:-1])
    torn = np.zeros(text.max(initial=0) + 1, dtype=bool)
    torn[texts[1:][differs]] = True
    return torn[text]


def drop_leaks(rows: Rows) -> dict[str, int]:
    """Leave out train and validation rows whose text is in a more protected split, and return how many by splits."""
    return {
        f"{SPLITS[name]} rows also in {SPLITS[other]}": drop_shared(rows, name, other, rows.text, Fate.SAME_TEXT)
        for name, other in LEAKS
        if (rows.split == name).any() and (rows.split == other).any()
    }


def drop_shared(rows: Rows, name: int, other: int, numbers: NDArray[np.int64], fate: Fate) -> int:
    """Leave out the rows of a split that have a row of the other split with the same number; return how many."""
    mine, theirs = rows.kept(name), rows.kept(other)
    there = np.zeros(numbers.max(initial=0) + 1, dtype=bool)
    there[numbers[theirs]] = True
    return rows.drop(mine[there[numbers[mine]]], fate)
