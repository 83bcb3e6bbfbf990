"""How the fields of a delimited file are separated and quoted, found from its first lines."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""Spreadsheets separate by semicolons in countries that write numbers with a decimal comma."""


@dataclass(frozen=True)
class Dialect:
    """How a file is written."""

    delimiter: str = ","
    quote: str | None = '"'
    """None where nothing is quoted, so that a field holds no delimiter and no line end."""
    escaped: bool = False
    """Whether a backslash stands before a quote in a quoted field, which otherwise stands twice."""

    def reader(self, lines: Iterable[str]) -> "Iterator[list[str]]":
        """Return the csv module's reader, which raises `csv.Error` where quotes do not match."""
        style: dict[str, Any] = {"quotechar": self.quote} if self.quote else {"quoting": csv.QUOTE_NONE}
        if self.escaped:
            style |= {"doublequote": False, "escapechar": "\\"}
        return csv.reader(lines, delimiter=self.delimiter, strict=True, **style)

    def unusual(self) -> str:
        """Return what is not as in most files, for people; empty if nothing is."""
        separated = f"columns separated by {DELIMITERS[self.delimiter]}" if self.delimiter != "," else ""
        quoted = "" if self.quote == '"' else "nothing quoted" if not self.quote else f"quoted with {self.quote}"
        escaped = "quotes escaped by a backslash" if self.escaped else ""
        return ", ".join(filter(None, (separated, quoted, escaped)))

    def found(self) -> dict[str, str]:
        """Return the dialect by the names of the csv module."""
        return {"delimiter": self.delimiter, "quote": self.quote or "", "escape": "\\" if self.escaped else ""}


def find_dialect(head: Sequence[str], wanted: str) -> Dialect:
    """Return the dialect of a file.

    The delimiter and the quote are those with which the header has the wanted column. If it has it with none, the
    delimiter is the one that gives most columns. Another way to quote than doubled quotes is taken only if the lines
    are not well-formed without it and are with it.

    Args:
        head: the first lines, the header first; the last one may be cut.
        wanted: name of a column.
    """
    header = head[0]
    tried = [Dialect(delimiter, quote) for quote in ('"', "'") for delimiter in DELIMITERS]
    names = {dialect: next(_rows(dialect, [header]), []) for dialect in tried}
    most = max(tried[: len(DELIMITERS)], key=lambda dialect: len(names[dialect]))
    chosen = next((dialect for dialect in tried if wanted in names[dialect]), most)
    broken = _broken(chosen, head)
    if not broken:
        return chosen
    others = []
    if any(f"\\{chosen.quote}" in line for line in head):
        others.append(replace(chosen, escaped=True))
    if chosen.delimiter == "\t" and wanted in names[chosen] and f'"{wanted}"' not in header:
        others.append(
            replace(chosen, quote=None)
        )  # tab-separated values know no quotes (IANA, text/tab-separated-values)
    return next((other for other in others if not _broken(other, head)), chosen)


def _rows(dialect: Dialect, lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield the rows, an empty one in place of what is broken."""
    reader = dialect.reader(lines)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):  # the lines are cut
                return
            yield []


def _broken(dialect: Dialect, lines: Sequence[str]) -> int:
    """Count the rows that have quotes that do not match, or not as many fields as the first."""
    rows = _rows(dialect, [line for line in lines if line.strip()])
    width = len(next(rows, []))
    return sum(len(row) != width for row in rows)
