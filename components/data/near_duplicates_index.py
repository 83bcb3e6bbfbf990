"""Runs of words as hashes on disk, and the rare ones of each row, by which rows with much in common find each other.

Texts are read once and not kept: a row of 40 words takes about 400 bytes on disk, and about 10 in memory.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from predictor.errors import InputError

PARTS = 64
"""Files into which the rare runs are divided by their hash; also the most shards that can share the work."""
# A share that is a whole number of runs must count as reached although 0.7 * 10 is not 7.
ROUNDING = 1e-9
RECORD = np.dtype([("run", "<i8"), ("row", "<u4"), ("left", "<u4")])
"""A rare run of a row, and how many of the row's runs, this one included, come from it on in the order of rarity."""
_RUNS, _SIZES, _ABOUT = "runs.bin", "sizes.bin", "index.json"
# Characters of text and numbers of runs that are handled at once: some 100 MB.
_CHARS, _AT_ONCE = 1 << 22, 1 << 21
# Han, kana, Thai, Lao, Tibetan, Myanmar and Khmer are written without spaces between words.
_UNSPACED = "\u0e00-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff\u31f0-\u31ff" \
    "\u3400-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"  # fmt: skip
# White space and punctuation but for apostrophes. Not all that is no letter: many scripts have vowels that are marks.
_BREAKS = (
    r"\s\x00-&(-/:-@\[-^`{-\xa9\xab-\xb1\xb4\xb6-\xb8\xbb\xbf\xd7\xf7\u05be\u060c\u061b\u061f\u066a-\u066d\u06d4"
    r"\u0964\u0965\u1361-\u1368\u2010-\u2018\u201a-\u205e\u3001-\u3004\u3008-\u3020\u3030\u30fb\uff01-\uff0f"
    r"\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^{_BREAKS}{_UNSPACED}]+")
_ASCII_WORD = re.compile(r"[\w']+", re.ASCII)
# An odd number whose bits have no pattern (that of the 64-bit linear congruential generator of Knuth's MMIX).
_FACTOR = np.uint64(6364136223846793005)
# As column numbers of a sparse matrix the hashes need a sign bit.
_COLUMNS = 2**63 - 1


def words_of(text: str) -> list[str]:
    """Return the words: what stands between white space or punctuation, and each character of a script without spaces.

    An apostrophe is part of a word.
    """
    return (_ASCII_WORD if text.isascii() else _WORD).findall(text)


def run_hashes(texts: Sequence[str], run: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return hashes of 63 bits of the distinct runs of each text, sorted, text after text, and their numbers.

    A text with fewer than `run` words, but at least one, is one run.
    """
    words = [words_of(text) for text in texts]
    counts = np.fromiter(map(len, words), np.int64, len(words))
    hashes = pd.util.hash_array(np.array(list(chain.from_iterable(words)), dtype=object), categorize=False)
    # Short texts are filled up with zeros, so that each text has as many places as it has runs, and `run - 1` more.
    places = np.where(counts > 0, np.maximum(counts, run), 0)
    filled = np.zeros(int(places.sum()), dtype=np.uint64)
    filled[ranges(np.cumsum(places) - places, counts)] = hashes
    numbers = np.maximum(places - (run - 1), 0)
    firsts = ranges(np.cumsum(places) - places, numbers)
    mixed = np.zeros(len(firsts), dtype=np.uint64)
    for word in range(run):
        mixed = mixed * _FACTOR + filled[firsts + word]
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _FACTOR
    mixed = (mixed ^ (mixed >> np.uint64(32))) >> np.uint64(1)
    matrix = matrix_of(np.minimum(mixed.astype(np.int64), _COLUMNS - 1), numbers)
    matrix.sum_duplicates()
    return matrix.indices, np.diff(matrix.indptr)


def ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return start, start + 1, ... of each start, `counts` numbers of it, one after the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()))


def matrix_of(runs: NDArray[np.int64], numbers: NDArray[np.int64]) -> csr_array:
    """Return the sparse matrix of which texts have which runs; column numbers are the hashes themselves."""
    ends = np.concatenate([[0], np.cumsum(numbers)])
    return csr_array((np.ones(len(runs), dtype=np.int8), runs, ends), shape=(len(numbers), _COLUMNS))


@dataclass(frozen=True)
class Index:
    """What was written for the texts: their runs, and their rare runs in `PARTS` files.

    Two sets of which a share of `similarity` is common have a run in common among the first n - ceil(similarity n) + 1
    of each, in whatever order all runs are put (prefix filtering: Chaudhuri et al. 2006; Bayardo et al. 2007). With the
    rarest runs first, few rows meet that have little in common.
    """

    folder: Path
    similarity: float
    sizes: NDArray[np.int64]
    """The number of distinct runs of each row."""
    starts: NDArray[np.int64]
    """Where the runs of each row begin in the file of all runs."""

    @classmethod
    def open(cls, folder: Path) -> "Index":
        """Open what `build` wrote.

        Raises:
            InputError: nothing was written there, or not all of it.
        """
        try:
            return cls.of(folder, json.loads((folder / _ABOUT).read_text())["similarity"])
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} has no whole index of runs ({error}): build it again") from error

    @classmethod
    def of(cls, folder: Path, similarity: float) -> "Index":
        """Return the index of the runs that were written."""
        sizes = np.fromfile(folder / _SIZES, dtype="<u4").astype(np.int64)
        return cls(folder, similarity, sizes, np.cumsum(sizes) - sizes)

    def part(self, number: int) -> NDArray[np.void]:
        """Return the rare runs of one part, as `RECORD`, the rows in order."""
        return np.fromfile(self.folder / _part(number), dtype=RECORD)

    def runs(self) -> NDArray[np.int64]:
        """Return the runs of all rows, mapped from disk."""
        file = self.folder / _RUNS
        return np.memmap(file, dtype="<i8", mode="r") if file.stat().st_size else np.zeros(0, dtype=np.int64)


def build(keys: Iterable[Sequence[str]], folder: Path, similarity: float, run: int) -> Index:
    """Write the runs of all texts, and the rare ones of each row in parts.

    Args:
        keys: cleaned lower-case texts, in chunks.
        folder: where to write; made if it is not there.
        similarity: the least share of common runs that will be asked for, above 0, at most 1.
        run: words of a run.

    Raises:
        InputError: `similarity` or `run` is out of range.
    """
    if not 0 < similarity <= 1:
        raise InputError(f"the similarity of near-duplicates is {similarity}: give a number above 0 and at most 1")
    if run < 1:
        raise InputError(f"the runs of near-duplicates have {run} words: give 1 or more")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _ABOUT).unlink(missing_ok=True)
    with (folder / _RUNS).open("wb") as runs, (folder / _SIZES).open("wb") as sizes:
        for texts in chain.from_iterable(map(_pieces, keys)):
            hashes, numbers = run_hashes(texts, run)
            hashes.astype("<i8", copy=False).tofile(runs)
            numbers.astype("<u4").tofile(sizes)
    index = Index.of(folder, similarity)
    _write_parts(index)
    (folder / _ABOUT).write_text(json.dumps({"similarity": similarity}))
    return index


def _pieces(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Divide a chunk with long texts, so that not too many words are held at once."""
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    return (texts[start:end] for start, end in slices(ends, _CHARS))


def slices(ends: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Yield slices of rows that have `most` units together, or are one row that has more.

    Args:
        ends: the sum of the units of the rows up to each row.
        most: the units of a slice.
    """
    start, before = 0, 0
    while start < len(ends):
        end = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield start, end
        start, before = end, int(ends[end - 1])


def _part(number: int) -> str:
    return f"part-{number:02d}.bin"


def _write_parts(index: Index) -> None:
    ends = index.starts + index.sizes
    total = int(ends[-1]) if len(ends) else 0
    # Runs are counted by some bits of their hash. Where two share a place both seem more common than they are: that
    # changes the order, the same for all rows, and finds no pair less.
    places = 1 << min(max(total.bit_length() + 1, 16), 26)
    counts = np.zeros(places, dtype=np.uint32)
    file = index.folder / _RUNS
    for at in range(0, total, _AT_ONCE):
        runs = np.fromfile(file, dtype="<i8", count=_AT_ONCE, offset=8 * at)
        np.add.at(counts, runs & (places - 1), np.uint32(1))
    with ExitStack() as stack:
        parts = [stack.enter_context((index.folder / _part(number)).open("wb")) for number in range(PARTS)]
        for first, last in slices(ends, _AT_ONCE):
            sizes = index.sizes[first:last]
            runs = np.fromfile(file, dtype="<i8", count=int(sizes.sum()), offset=8 * int(index.starts[first]))
            found = _rare(runs, sizes, counts[runs & (places - 1)], index.similarity)
            found["row"] += first
            number = (found["run"] >> 57).astype(np.uint8)
            found = found[np.argsort(number, kind="stable")]
            borders = np.cumsum(np.bincount(number, minlength=PARTS))[:-1]
            for part, records in zip(parts, np.split(found, borders), strict=True):
                records.tofile(part)


def _rare(
    runs: NDArray[np.int64], sizes: NDArray[np.int64], counts: NDArray[np.uint32], similarity: float
) -> NDArray[np.void]:
    """Return the first n - ceil(similarity n) + 1 of the n runs of each row, without those that no other row can have.

    Args:
        runs: of the rows, one row after the other.
        sizes: the runs of each row.
        counts: how common each run is, or seems to be.
        similarity: the least share of common runs that will be asked for.
    """
    # The sparse matrix sorts the runs of each row by how common they are, then by hash, and brings the positions along.
    matrix = matrix_of((np.minimum(counts, 2**15 - 1).astype(np.int64) << 48) | (runs >> 15), sizes)
    matrix.data = np.arange(len(runs))
    matrix.sort_indices()
    prefixes = sizes - np.ceil(similarity * sizes - ROUNDING).astype(np.int64) + (sizes > 0)
    first = matrix.data[ranges(matrix.indptr[:-1], prefixes)]
    rows = np.repeat(np.arange(len(sizes)), prefixes)
    left = np.repeat(sizes, prefixes) - ranges(np.zeros_like(prefixes), prefixes)
    shared = counts[first] > 1
    found = np.empty(int(shared.sum()), dtype=RECORD)
    found["run"], found["row"], found["left"] = runs[first][shared], rows[shared], left[shared]
    return found
