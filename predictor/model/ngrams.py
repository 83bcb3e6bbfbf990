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
_SALTS = np.array([0, 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7], dtype=np.uint64)
_ONE = np.uint64(1)
_SPACE, _WORD, _OTHER, _END = range(4)


def hashes(texts: Sequence[str], unit: Unit) -> tuple[Hashes, NDArray[np.int64]]:
    """Return the hashes of n-grams, and which rows are of which text.

    A text has a row for each of its units and one for its end: words and runs of other signs, with the next one
    (n-grams of 1 and 2), or characters, with the next two (1, 2 and 3). Case is ignored.

    Args:
        texts: clean texts, at least one, such as `portions` gives; `MOST_CHARS` of each are read.
        unit: what a text is divided into.

    Returns:
        Hashes of shape (rows, 2 or 3), and the rows between which each text's stand, shape (texts + 1,).
    """
    # With one short text the calls of NumPy are the cost; append, where and other helpers cost the most.
    cut = [text.lower()[:MOST_CHARS] for text in texts]
    points = np.frombuffer("\0".join([*cut, ""]).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    bounds = np.zeros(len(cut) + 1, dtype=np.int64)
    np.cumsum([len(text) + 1 for text in cut], out=bounds[1:])
    ends = bounds[1:] - 1
    if unit == "characters":
        return _of_characters(points, ends), bounds
    found, rows = _of_words(points, ends)
    np.add(rows, 1, out=bounds[1:])
    return found, bounds


def spans(text: str, unit: Unit) -> list[tuple[int, int]]:
    """Return where the units of a text stand: the first character and the one after the last, in order.

    Unit and row of `hashes` have the same number. The row of the text's end, which is the last, has no place.
    """
    lowered = text.lower()[:MOST_CHARS]
    # A few capitals, such as the Turkish dotted I, become two characters.
    places = [place for place, letter in enumerate(text) for _ in letter.lower()]
    if unit == "characters":
        return [(places[row], places[row] + 1) for row in range(len(lowered))]
    points = np.frombuffer((lowered + "\0").encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    starts, stops, last = _units(points, np.array([len(lowered)]))
    found = zip(starts[~last].tolist(), stops[~last].tolist(), strict=True)
    return [(places[start], places[stop - 1] + 1) for start, stop in found]


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
    first, second, third = sizes = np.zeros((3, len(points)), dtype=np.uint64)
    np.add(points, _ONE, out=first)
    first[ends] = 0
    second[:-1] = first[1:]
    second[ends] = 0
    third[:-1] = second[1:]
    third[ends] = 0
    second += first * np.uint64(_BASE)
    third += second * np.uint64(_BASE)
    sizes += _SALTS[:, None]
    return _mix(sizes).T


def _units(
    points: NDArray[np.uint32], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return where words and runs of other signs start and stop, and which of them are the end of a text."""
    kinds = _kinds()[points]
    kinds[ends] = _END
    bounds = np.ones(len(kinds) + 1, dtype=bool)
    np.not_equal(kinds[1:], kinds[:-1], out=bounds[1:-1])
    bounds[ends] = True  # the end of an empty text stands beside another end
    (places,) = bounds.nonzero()
    of = kinds[places[:-1]]
    kept = of != _SPACE
    return places[:-1][kept], places[1:][kept], of[kept] == _END


def _of_words(points: NDArray[np.uint32], ends: NDArray[np.int64]) -> tuple[Hashes, NDArray[np.int64]]:
    """Return the hashes, and the row of each text's end."""
    starts, stops, last = _units(points, ends)
    # A word's hash is the polynomial of its characters: a difference of sums, divided by the power at its start.
    powers, inverses = _powers()
    sums = np.zeros(len(points) + 1, dtype=np.uint64)
    np.cumsum((points + _ONE) * powers[: len(points)], out=sums[1:])
    words = _mix((sums[stops] - sums[starts]) * inverses[starts])
    words[last] = 0
    pairs = words * np.uint64(_BASE)
    pairs[:-1] += words[1:] * ~last[:-1]
    pairs += _SALTS[1]
    return np.stack([words, _mix(pairs)], axis=1), last.nonzero()[0]


def _mix(values: Hashes) -> Hashes:
    """Spread values over all 64 bits, in place (the finaliser of MurmurHash3, A. Appleby 2011)."""
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xFF51AFD7ED558CCD)
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xC4CEB9FE1A85EC53)
    values ^= values >> np.uint64(33)
    return values


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
