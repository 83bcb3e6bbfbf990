"""What every source gives: tables of one split each, in chunks, with what was left out and why."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from components.platform.progress import say
from predictor.errors import InputError

CHUNK_ROWS = 10_000
CHUNK_CHARS = 1 << 24
"""A chunk is closed at so many characters, so that long texts need no more memory than short ones."""
MOST_REJECTED = 0.01
"""The share of a table's rows that may be left out as broken.

The rows that break are not drawn at random: where texts are not quoted, they are those with a comma, the long ones. One
row in a hundred is more than accidents break, and too few to change what is learned from the rest. Above that the file
is not what it was taken for, and only a person can say what it is.
"""
_MANY = 1_000
"""So many rejects are judged at once, and not at the end of the table."""
_NAMED = 3
"""Places that a sentence names."""

BYTES = "bytes of another encoding"
FIELDS = "another number of fields than the header"
KIND = "a value that is no text or number"
LENGTH = "a field that is too long"
NULS = "NUL characters"
OBJECTS = "no JSON object"
QUOTES = "quotes that do not match"
ORIGIN = "an unclear mark of synthetic rows"

ADVICE = {
    BYTES: "save it in one encoding, best in UTF-8",
    FIELDS: "put texts that hold a separator in double quotes",
    KIND: "give text or a number",
    LENGTH: "give a text a row",
    NULS: "remove them, or save the file anew as UTF-8",
    OBJECTS: "give one JSON object a line",
    QUOTES: "put texts with quotes or line ends in double quotes, and double the quotes in them",
    ORIGIN: "write true or false",
}


@dataclass
class Rejects:
    """The rows of one table that are broken by themselves, counted by reason, each reason with its first places.

    Args:
        where: what messages call the table.
    """

    where: str
    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, place: str) -> None:
        """Count a row; `place` says which one, and what is wrong with it if the reason leaves that open."""
        self.counts[reason] += 1
        first = self.places.setdefault(reason, [])
        if len(first) < _NAMED:
            first.append(place)

    def check(self, rows: int, *, last: bool = False) -> None:
        """Refuse the table if too many of its rows are broken.

        Args:
            rows: the rows that were read so far, without those left out.
            last: whether there are no more.

        Raises:
            InputError: they are over `MOST_REJECTED` of all at the end of the table, or most of many before.
        """
        left_out = self.counts.total()
        share = MOST_REJECTED if last else 0.5
        if left_out and left_out > share * (rows + left_out) and (last or left_out >= _MANY):
            reason, _ = self.counts.most_common(1)[0]
            raise InputError(
                f"{self.where} has {left_out:,} broken rows of {rows + left_out:,}, more than {MOST_REJECTED:.0%}: "
                f"{self.sentence(reason)}; {ADVICE[reason]}"
            )

    def sentence(self, reason: str) -> str:
        """Return the reason with the first places and the number of the others."""
        more = self.counts[reason] - len(self.places[reason])
        tail = f" and {more:,} more rows" if more else ""
        return f"{reason} ({', '.join(self.places[reason])}{tail})"


def numbered(chunks: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Yield the chunks of a table that has no lines, with the numbers of their rows as the index, from 1 on."""
    first = 1
    for chunk in chunks:
        chunk.index = pd.RangeIndex(first, first + len(chunk))
        first += len(chunk)
        yield chunk


@dataclass(frozen=True)
class Request:
    """What is to be read."""

    address: str
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of the source's columns by ours, such as `{"text": "body"}`."""
    query: str = ""
    tell: Callable[[str], None] = say
    """Gets a sentence about each thing that was found and is not the usual."""

    def column(self, name: str) -> str:
        """Return the source's name of one of our columns."""
        return self.columns.get(name, name)


@dataclass
class Table:
    """Rows of one split as they stand in the source, in chunks of at most `CHUNK_ROWS`.

    The index of a chunk says on which line or in which row of the source each row is.
    """

    split: str
    where: str
    """What messages and the column `source` call it; never with credentials."""
    chunks: Iterator[pd.DataFrame]
    rejects: Rejects
    unit: str = "row"
    """What the index counts: `row` or `line`."""
    class_names: Sequence[str] | None = None
    """If labels are numbers of classes, the names of the classes."""
    loose: bool = False
    """Whether a row may lack a column, as an object in JSON lines may."""
    found: dict[str, str] = field(default_factory=dict)
    """What was found out about its form, such as its encoding."""
