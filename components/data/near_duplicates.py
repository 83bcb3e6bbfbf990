"""Finds near-duplicates: rows whose texts have most of their runs of words in common.

An exact set-similarity join by prefix filtering, with the length and positional filters of PPJoin (Bayardo, Ma and
Srikant, "Scaling up all pairs similarity search", 2007; Xiao, Wang, Lin and Yu, "Efficient similarity joins for near
duplicate detection", 2008). Nothing is estimated, as with MinHash: no pair is missed, and each is verified.
"""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from components.data.near_duplicates_index import PARTS, ROUNDING, Index, build, matrix_of, ranges, slices
from predictor.errors import InputError

FAMILY = 64
"""Rows with a rare run in common of which every pair is compared; of more rows, each with some leaders."""
LEADERS = 32
# Pairs that are gathered before they are verified, and runs that are compared at once: some 100 MB.
_PAIRS, _RUNS = 1 << 20, 1 << 21

Pairs = NDArray[np.int64]


def near_duplicates(
    keys: Iterable[Sequence[str]],
    similarity: float = 0.7,
    run: int = 5,
    folder: Path | None = None,
    every: bool = False,
) -> Pairs:
    """Return pairs of rows whose sets of runs have a Jaccard index of at least `similarity`, shape (pairs, 2).

    A word is what stands between white space or punctuation; an apostrophe is part of it. In scripts that have no
    spaces (Chinese, Japanese, Thai and others) each character is a word. A text with fewer than `run` words is one run:
    only texts of the same words are near-duplicates of it. A text of punctuation alone has no near-duplicates.

    The pairs join rows to clusters: give them to `clusters`. Of a family of many rows, such as a million texts from one
    template, not every pair is listed, as those would be a number that grows with its square. Where more than `FAMILY`
    rows share a rare run, each is compared with the first of them, then with the first that is not like that one, and
    so on up to `LEADERS`. Rows that are not like any of those, in no run they share, are not joined. With `every`, all
    pairs are found and listed, however many.

    Args:
        keys: cleaned lower-case texts, in chunks; rows are numbered over all chunks, from 0.
        similarity: the least Jaccard index, above 0, at most 1.
        run: words of a run.
        folder: where to write the runs (400 bytes for a row of 40 words); they stay there. None for a temporary folder.
        every: list every pair.

    Returns:
        Pairs (i, j) with i < j, sorted, each once and verified.

    Raises:
        InputError: `similarity` or `run` is out of range.
    """
    if folder is not None:
        return shard_pairs(build(keys, folder, similarity, run), every=every)
    with tempfile.TemporaryDirectory() as scratch:
        return shard_pairs(build(keys, Path(scratch), similarity, run), every=every)


def shard_pairs(index: Index, shard: int = 0, shards: int = 1, every: bool = False) -> Pairs:
    """Return the pairs that one shard finds alone; `merged` joins those of all shards to what one shard alone finds.

    A shard looks at the runs whose hashes are its own, of all rows.

    Args:
        index: what `build` wrote, which all shards read.
        shard: which one, from 0.
        shards: how many there are, at most `PARTS`.
        every: list every pair, as for `near_duplicates`.

    Raises:
        InputError: there is no such shard.
    """
    if not 0 <= shard < shards <= PARTS:
        raise InputError(f"there is no shard {shard} of {shards}: count from 0, with at most {PARTS} shards")
    return merged(_pairs_of_part(index, number, every) for number in range(shard, PARTS, shards))


def merged(shards: Iterable[Pairs]) -> Pairs:
    """Return the pairs of all shards, sorted, each once."""
    pairs = np.concatenate([np.zeros((0, 2), dtype=np.int64), *shards])
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    new = np.ones(len(pairs), dtype=bool)
    new[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    unique: Pairs = pairs[new]
    return unique


def clusters(pairs: Pairs, rows: int) -> NDArray[np.int64]:
    """Return for each row the smallest row that it is joined to by a chain of pairs, itself included; shape (rows,)."""
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(rows, rows))
    _, labels = connected_components(graph, directed=False)
    _, smallest = np.unique(labels, return_index=True)
    first: NDArray[np.int64] = smallest[labels].astype(np.int64)
    return first


def _pairs_of_part(index: Index, number: int, every: bool) -> Pairs:
    found = index.part(number)
    if not len(found):
        return np.zeros((0, 2), dtype=np.int64)
    # Where the run comes early in the order of a row, more of the row is left to have in common: these rows lead.
    places = index.sizes[found["row"]] - found["left"]
    found = found[np.lexsort((places, found["run"]))]
    starts = np.flatnonzero(np.diff(found["run"], prepend=-1))
    counts = np.diff(starts, append=len(found))
    each = (counts > 1) & ((counts <= FAMILY) | every)
    comparison = _Comparison(index)
    _compare_each(comparison, found, starts[each], counts[each])
    if not every:
        large = counts > FAMILY
        starts, counts = starts[large], counts[large]
        for first, last in slices(np.cumsum(counts), _PAIRS):
            _compare_leaders(comparison, found, starts[first:last], counts[first:last])
    return comparison.pairs()


def _compare_each(
    comparison: "_Comparison", found: NDArray[np.void], starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    """Compare each row of a family with each, where what comes after the common run can be enough."""
    at, ends, distance = ranges(starts, counts - 1), np.repeat(starts + counts, counts - 1), 1
    while len(at):
        comparison.add(found[at], found[at + distance])
        distance += 1
        more = at + distance < ends
        at, ends = at[more], ends[more]


def _compare_leaders(
    comparison: "_Comparison", found: NDArray[np.void], starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    """Compare the rows of each family with its leaders: the first row, the first that is not like it, and so on."""
    joined = np.zeros(len(found), dtype=bool)
    for _ in range(LEADERS):
        members, family = ranges(starts, counts), np.repeat(np.arange(len(starts)), counts)
        free = np.flatnonzero(~joined[members])
        led, first = np.unique(family[free], return_index=True)
        if not len(led):
            return
        leaders, starts, counts = members[free[first]], starts[led], counts[led]
        joined[leaders] = True
        members, leaders = ranges(starts, counts), np.repeat(leaders, counts)
        members, leaders = members[members != leaders], leaders[members != leaders]
        joined[members[comparison.compare(found[leaders], found[members])]] = True


class _Comparison:
    """Verifies pairs of rows, and remembers those that are similar."""

    def __init__(self, index: Index) -> None:
        self._index, self._runs, self._rows = index, index.runs(), len(index.sizes)
        self._waiting: list[NDArray[np.int64]] = []
        self._waits = 0
        self._similar = [np.zeros(0, dtype=np.int64)]

    def add(self, one: NDArray[np.void], other: NDArray[np.void]) -> None:
        """Take pairs of records of the same run, to be verified if enough can be in common from this run on."""
        enough = self._can_be_enough(one, other)
        self._waiting.append(self._codes(one["row"][enough], other["row"][enough]))
        self._waits += len(self._waiting[-1])
        if self._waits > _PAIRS:
            self._flush()

    def compare(self, one: NDArray[np.void], other: NDArray[np.void]) -> NDArray[np.bool_]:
        """Return of each pair of records of the same run whether it is similar, as far as can be seen from this run."""
        similar = self._can_be_enough(one, other)
        codes = self._codes(one["row"][similar], other["row"][similar])
        similar[similar] = verified = self._verified(codes)
        self._similar.append(codes[verified])
        return similar

    def pairs(self) -> Pairs:
        """Return the similar pairs, sorted, each once."""
        self._flush()
        found = np.unique(np.concatenate(self._similar))
        return np.stack(np.divmod(found, max(self._rows, 1)), axis=1)

    def _codes(self, one: NDArray[np.uint32], other: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Return each pair as one number, the same whichever comes first."""
        return np.minimum(one, other).astype(np.int64) * self._rows + np.maximum(one, other)

    def _flush(self) -> None:
        codes = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *self._waiting]))
        self._waiting, self._waits = [], 0
        self._similar.append(codes[self._verified(codes)])

    def _can_be_enough(self, one: NDArray[np.void], other: NDArray[np.void]) -> NDArray[np.bool_]:
        # If this is the first run that both have, the others come later in both. If it is not, the first one tells.
        together = self._index.sizes[one["row"]] + self._index.sizes[other["row"]]
        return self._enough(np.minimum(one["left"], other["left"]), together)

    def _enough(self, common: NDArray[Any], together: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether so many common runs are enough for the numbers of runs that both rows have together."""
        enough: NDArray[np.bool_] = common >= self._index.similarity * (together - common) - ROUNDING
        return enough

    def _verified(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        one, other = np.divmod(codes, max(self._rows, 1))
        together = self._index.sizes[one] + self._index.sizes[other]
        common = np.empty(len(codes), dtype=np.int64)
        for start, end in slices(np.cumsum(together), _RUNS):
            both = self._matrix(one[start:end]).multiply(self._matrix(other[start:end]))
            common[start:end] = np.diff(both.indptr)
        return self._enough(common, together)

    def _matrix(self, rows: NDArray[np.int64]) -> Any:
        sizes = self._index.sizes[rows]
        matrix = matrix_of(self._runs[ranges(self._index.starts[rows], sizes)], sizes)
        matrix.has_canonical_format = True
        return matrix
