"""The sets of labels that rows of multi-label data have: what a class is where a row has one label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from predictor.label_sets import joined, parted


@dataclass(frozen=True)
class LabelSets:
    """Distinct sets of labels. Each is one entry of `Rows.labels`, so that rows of one set are told from others."""

    names: list[str]
    """The labels, in their order."""
    has: csr_array
    """Whether a set has a label, 0 or 1, of shape (sets, labels)."""

    @classmethod
    def of(cls, sets: Sequence[str]) -> "LabelSets":
        """Return these sets, each a text of labels joined by `|`; labels are ordered by name."""
        parts = [parted(text) for text in sets]
        names = sorted({name for part in parts for name in part})
        place = {name: number for number, name in enumerate(names)}
        columns = [sorted(place[name] for name in part) for part in parts]
        ends = np.cumsum([0, *map(len, columns)])
        inside = np.array([column for part in columns for column in part], dtype=np.int64)
        return cls(names, csr_array((np.ones(len(inside), dtype=np.int64), inside, ends), (len(sets), len(names))))

    def counts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows that have each label, given the rows that have each set."""
        counts: NDArray[np.int64] = self.has.T @ rows
        return counts

    def within(self, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return whether all labels of each set are among those that are known; shape (sets,)."""
        return np.asarray(self.has @ (~known).astype(np.int64) == 0)

    def labels_of(self, number: int) -> NDArray[np.int64]:
        """Return the labels of a set, as positions in `names`."""
        labels: NDArray[np.int64] = self.has.indices[self.has.indptr[number] : self.has.indptr[number + 1]]
        return labels

    def members(self, label: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each pair of a row and one of its labels, given the set of each row: places of rows, and labels."""
        pairs = self.has[label].tocoo()
        return pairs.coords[0].astype(np.int64), pairs.coords[1].astype(np.int64)

    def keep(self, kept: NDArray[np.int32]) -> tuple["LabelSets", NDArray[np.int64]]:
        """Return the sets that have no other labels than these, in this order of labels, and which sets these were."""
        known = np.zeros(len(self.names), dtype=bool)
        known[kept] = True
        left = np.flatnonzero(self.within(known))
        has = csr_array(self.has[left][:, kept])
        has.sort_indices()
        return LabelSets([self.names[label] for label in kept], has), left

    def written(self) -> list[str]:
        """Return the sets as texts, their labels in order."""
        return [joined(self.names[label] for label in self.labels_of(number)) for number in range(self.has.shape[0])]
