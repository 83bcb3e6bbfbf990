"""Hashes of a text's words, or of its characters, alone and with those that follow: features without a vocabulary.

Training and serving share this, so a weight is found where it was put. All is integer arithmetic on whole arrays: a
text has the same hashes on every machine and beside whatever other texts.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["words", "characters"]
"""What a text is divided into: characters for languages that write no spaces between words."""
Hashes = NDArray[np.uint64]

MOST_CHARS = 65_536
"""Characters of a text that are read, and of all texts that are hashed at a time."""

# With a multiplier that is odd, arithmetic modulo 2^64 can divide by it.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 2**64)
# Added to n-grams of 1, 2 and 3, which are different features even where their numbers are equal.
_SALTS = tuple(map(np.uint64, (0, 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7)))
_SPACE, _WORD, _OTHER, _END = range(4)


def hashes(texts: Sequence[str], unit: Unit) -> tuple[Hashes, NDArray[np.int64]]:
    """Return the hashes of n-grams, and where each text's begin.

    A text has a row for each of its units and one for its end: words and runs of other signs, with the next one
    (n-grams of 1 and 2), or characters, with the next two (1, 2 and 3). Case is ignored.

    Args:
        texts: clean texts, at least one, such as `portions` gives; `MOST_CHARS` of each are read.
        unit: what a text is divided into.

    Returns:
        Hashes of shape (rows, 2 or 3), and the number of the first row of each text, shape (texts,).
    """
    cut = [text.lower()[:MOST_CHARS] for text in texts]
    lengths = np.fromiter(map(len, cut), dtype=np.int64, count=len(cut))
    points = np.frombuffer("\0".join([*cut, ""]).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    ends = np.cumsum(lengths + 1) - 1
    if unit == "characters":
        return _of_characters(points, ends), np.append(0, ends[:-1] + 1)
    return _of_words(points, ends)


def portions(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Divide texts into parts whose characters fit into memory at a time, at least one text each."""
    start = chars = 0
    for place, text in enumerate(texts):
        length = min(len(text), MOST_CHARS) + 1
        if place > start and chars + length > MOST_CHARS:
            yield texts[start:place]
            start, chars = place, 0
        chars += length
    yield texts[start:]


def _of_characters(points: NDArray[np.uint32], ends: NDArray[np.int64]) -> Hashes:
    first = points.astype(np.uint64) + np.uint64(1)
    first[ends] = 0
    second, third = np.zeros_like(first), np.zeros_like(first)
    second[:-1] = np.where(first[:-1] > 0, first[1:], 0)
    third[:-2] = np.where(second[:-2] > 0, first[2:], 0)
    two = first * np.uint64(_BASE) + second
    three = two * np.uint64(_BASE) + third
    return np.stack([_mixed(size + salt) for size, salt in zip((first, two, three), _SALTS, strict=True)], axis=1)


def _of_words(points: NDArray[np.uint32], ends: NDArray[np.int64]) -> tuple[Hashes, NDArray[np.int64]]:
    kinds = _kinds()[points]
    kinds[ends] = _END
    begins = np.empty(len(kinds), dtype=bool)
    begins[0] = True
    begins[1:] = kinds[1:] != kinds[:-1]
    begins[ends] = True  # the end of an empty text stands beside another end
    starts = np.flatnonzero(begins)
    stops = np.append(starts[1:], len(kinds))
    of = kinds[starts]
    starts, stops, of = starts[of != _SPACE], stops[of != _SPACE], of[of != _SPACE]
    # A word's hash is the polynomial of its characters: a difference of sums, divided by the power at its start.
    powers, inverses = _powers()
    sums = np.zeros(len(points) + 1, dtype=np.uint64)
    np.cumsum((points.astype(np.uint64) + np.uint64(1)) * powers[: len(points)], out=sums[1:])
    words = _mixed((sums[stops] - sums[starts]) * inverses[starts])
    last = of == _END
    words[last] = 0
    following = np.zeros_like(words)
    following[:-1] = np.where(last[:-1], 0, words[1:])
    pairs = _mixed(words * np.uint64(_BASE) + following + _SALTS[1])
    rows = np.flatnonzero(last)
    return np.stack([words, pairs], axis=1), np.append(0, rows[:-1] + 1)


def _mixed(values: Hashes) -> Hashes:
    """Spread values over all 64 bits, the highest most of all (the finaliser of MurmurHash3, A. Appleby 2011)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


@cache
def _kinds() -> NDArray[np.uint8]:
    """Return for each code point whether it is part of a word, white space or another sign."""
    characters = "".join(map(chr, range(0x110000)))
    kinds = np.full(len(characters), _OTHER, dtype=np.uint8)
    for pattern, kind in ((r"\w+", _WORD), (r"\s+", _SPACE)):
        for run in re.finditer(pattern, characters):
            kinds[run.start() : run.end()] = kind
    return kinds


@cache
def _powers() -> tuple[Hashes, Hashes]:
    """Return the powers of the base, and of its inverse, for every place of a character."""
    most = 2 * MOST_CHARS + 2
    both = (np.full(most, base, dtype=np.uint64) for base in (_BASE, _INVERSE))
    powers, inverses = (np.multiply.accumulate(np.append(np.uint64(1), values[1:])) for values in both)
    return powers, inverses
