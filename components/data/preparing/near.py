"""Near-copies: found among the distinct texts, dropped where they leak, kept together where splits are drawn."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import SPLITS
from components.data.near_duplicates import FAMILY, clusters, near_duplicates
from components.data.preparing.chunks import CHUNK
from components.data.preparing.copies import LEAKS, drop_shared
from components.data.preparing.rows import Fate, Rows
from components.data.preparing.scratch import Scratch
from components.platform.progress import say

SIMILARITY = 0.7
"""From this Jaccard similarity of runs of words on, two texts are near-copies."""


@dataclass(frozen=True)
class NearCopies:
    """Pairs of near-copies, as rows of which each stands for all rows with its text."""

    pairs: NDArray[np.int64]
    """A row for each pair, with two row numbers."""
    family: NDArray[np.int64]
    """For each text, a number that it shares with the other texts of a family so large that not every pair is listed;
    there the whole family counts as near. Other texts have numbers of their own."""

    @classmethod
    def find(cls, rows: Rows, scratch: Scratch, folder: Path) -> "NearCopies":
        """Compare the distinct texts of the rows that are kept.

        Args:
            rows: exact copies across splits are left out of it already.
            scratch: has the texts.
            folder: for what does not fit into memory.
        """
        kept = np.flatnonzero(rows.fate == Fate.KEPT)
        distinct = np.sort(kept[np.unique(rows.text[kept], return_index=True)[1]])
        if len(distinct) > CHUNK:
            say(f"look for near-copies among {len(distinct):,} texts")
        found = near_duplicates(scratch.keys(distinct), similarity=SIMILARITY, folder=folder)
        family = np.arange(rows.text.max(initial=0) + 1) + len(rows)
        group = clusters(found, len(distinct))
        large = (np.bincount(group, minlength=1) > FAMILY)[group]
        family[rows.text[distinct[large]]] = group[large]
        return cls(distinct[found], family)

    def differing(self, rows: Rows) -> NDArray[np.int64]:
        """Return the pairs whose labels differ."""
        first, second = rows.label[self.pairs].T
        pairs: NDArray[np.int64] = self.pairs[first != second]
        return pairs

    def drop_leaks(self, rows: Rows) -> dict[str, int]:
        """Leave out train and validation rows that are near-copies of a row of a more protected split.

        Returns:
            How many, by splits, where there are any.
        """
        counts = {}
        for name, other in LEAKS:
            kept = (rows.fate == Fate.KEPT)[self.pairs].all(axis=1)
            split = rows.split[self.pairs]
            leaks = [self.pairs[kept & (split[:, i] == name) & (split[:, 1 - i] == other), i] for i in (0, 1)]
            found = rows.kept(name)
            found = found[np.isin(rows.text[found], rows.text[np.concatenate(leaks)])]
            total = rows.drop(found, Fate.NEAR) + drop_shared(rows, name, other, self.family[rows.text], Fate.NEAR)
            if total:
                counts[f"{SPLITS[name]} rows near {SPLITS[other]}"] = total
        return counts

    def units(self, rows: Rows, kept: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number the groups of near-copies among these rows, of which no two have the same text, by their first row."""
        place = np.full(len(rows), -1)
        place[kept] = np.arange(len(kept))
        inside = place[self.pairs]
        return clusters(inside[(inside >= 0).all(axis=1)], len(kept))
