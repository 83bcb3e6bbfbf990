"""Reads CSV and its relatives row by row; a row that is broken by itself is counted, and never shifts another."""

import csv
import itertools
import sys
from collections import deque
from collections.abc import Iterator

import pandas as pd

from components.data.sources.formats.dialect import Dialect, find_dialect
from components.data.sources.formats.text import MOST_LINE, UNDECODABLE, Text
from components.data.sources.table import ADVICE, BYTES, CHUNK_CHARS, CHUNK_ROWS, FIELDS, QUOTES, Request, Table
from predictor.errors import InputError

_HEAD_CHARS = 1 << 18
"""Characters from which the dialect is found."""
_SOUND_ROWS = 3
"""After quotes that do not match, so many well-formed rows in succession are needed to go on."""
_LONGEST_ROW = 1_000
"""Lines of such a row."""


def read_delimited(text: Text, table: Table, request: Request) -> Iterator[pd.DataFrame]:
    """Yield the rows of a delimited file; cells are strings, or None where they are empty.

    Rows with another number of fields than the header are left out and counted, because it is unclear which field
    belongs to which column. After quotes that do not match, lines are left out until three well-formed rows follow each
    other, so that no piece of a broken row is taken for a row; each such line counts.

    Args:
        text: the file.
        table: where rejects are counted, and what was found is noted.
        request: the wanted columns.

    Raises:
        InputError: there is no header or it stands twice, a quote is never closed, or too many rows are broken.
    """
    csv.field_size_limit(min(MOST_LINE, sys.maxsize))
    lines = text.lines("")
    head = _head(lines)
    if not any(line.strip() for line in head):
        raise InputError(f"{table.where} cannot be read (it is empty): give rows, with the names of the columns first")
    skipped = next(number for number, line in enumerate(head) if line.strip())
    dialect = find_dialect(head[skipped:], request.column("text"))
    if unusual := dialect.unusual():
        request.tell(f"{table.where}: {unusual}")
    table.found.update(dialect.found())
    rows = _Rows(itertools.chain(head, lines), dialect, table)
    chunk = _Chunk(rows.header)
    read = 0
    for line, row in rows:
        if len(row) != len(rows.header):
            # A row of white space is no row, except where it may be a text.
            if len(row) > 1 or row[0].strip():
                table.rejects.add(FIELDS, f"line {line} has {len(row)} and not {len(rows.header)}")
        elif row[-1] == rows.header[-1] and len(row) > 1 and _unmarked(row) == rows.header:
            raise InputError(
                f"{table.where} has its header again in line {line}: if files were joined, remove that line"
            )
        elif text.damaged and any(map(UNDECODABLE.search, row)):
            table.rejects.add(BYTES, f"line {line} is not {text.encoding.upper()}")
        else:
            chunk.add(line, row)
        if chunk.full:
            read += len(chunk.rows)
            yield chunk.frame()
            table.rejects.check(read)
            chunk = _Chunk(rows.header)
    table.found["encoding"] = text.encoding
    yield chunk.frame()


def _head(lines: Iterator[str]) -> list[str]:
    head, size = [], 0
    for line in lines:
        head.append(line)
        size += len(line) if size or line.strip() else 0  # what stands before the header says nothing
        if size > _HEAD_CHARS:
            break
    return head


def _unmarked(row: list[str]) -> list[str]:
    """Return a row without the byte order mark that a header has in the middle of joined files."""
    return [row[0][1:].strip('"'), *row[1:]] if row[0].startswith("\ufeff") else row


class _Chunk:
    def __init__(self, header: list[str]) -> None:
        self._names = [name or f"Unnamed: {number}" for number, name in enumerate(header)]
        self.rows: list[list[str | None]] = []
        self._lines: list[int] = []
        self._size = 0

    def add(self, line: int, row: list[str]) -> None:
        self.rows.append([cell or None for cell in row])
        self._lines.append(line)
        self._size += sum(map(len, row))

    @property
    def full(self) -> bool:
        return len(self.rows) >= CHUNK_ROWS or self._size >= CHUNK_CHARS

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, index=self._lines, columns=self._names, dtype=object)


class _Rows:
    """The rows that are not blank, each with the number of its first line, after the header."""

    def __init__(self, lines: Iterator[str], dialect: Dialect, table: Table) -> None:
        self._lines, self._dialect, self._table = lines, dialect, table
        self._waiting: deque[str] = deque()
        self._row: list[str] = []  # lines of the row that is being read
        self._number = 0
        self._reader = dialect.reader(self._fed())
        self.header: list[str] = []
        self.header = next((row for _, row in self if any(map(str.strip, row))), [])

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            self._row.clear()
            line = self._number + 1
            try:
                row = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._after(error, line)
                continue
            if row:
                yield line, row

    def _fed(self) -> Iterator[str]:
        while True:
            line = self._waiting.popleft() if self._waiting else next(self._lines, None)
            if line is None:
                return
            self._row.append(line)
            self._number += 1
            yield line

    def _after(self, error: csv.Error, line: int) -> None:
        """Leave out the row that begins in a line, and what follows up to rows that are well-formed."""
        never_closed = "unexpected end" in str(error) or "field larger" in str(error)
        if never_closed or not self.header:
            reason = "a quote is opened and never closed" if never_closed else str(error)
            raise InputError(f"{self._table.where}, line {line} cannot be read ({reason}): {ADVICE[QUOTES]}") from error
        self._waiting.extendleft(reversed(self._row))
        self._number = line - 1
        while self._waiting or self._more():
            if self._number >= line and self._sound():
                return
            self._number += 1
            if self._waiting.popleft().strip():
                self._table.rejects.add(QUOTES, f"line {self._number}")

    def _more(self) -> bool:
        line = next(self._lines, None)
        if line is not None:
            self._waiting.append(line)
        return line is not None

    def _sound(self) -> bool:
        """Return whether the next rows are well-formed, or there are none."""
        position = 0
        taken: list[str] = []

        def ahead() -> Iterator[str]:
            nonlocal position
            while len(taken) < _LONGEST_ROW and (position < len(self._waiting) or self._more()):
                taken.append(self._waiting[position])
                position += 1
                yield taken[-1]

        reader, sound = self._dialect.reader(ahead()), 0
        while sound < _SOUND_ROWS:
            taken.clear()
            try:
                row = next(reader)
            except StopIteration:
                return True
            except csv.Error:
                return False
            if row:
                if len(row) != len(self.header) or self._strays(row, "".join(taken)):
                    return False
                sound += 1
        return True

    def _strays(self, row: list[str], written: str) -> bool:
        """Return whether a field holds a quote and is not quoted itself."""
        quote = self._dialect.quote
        if not quote or self._dialect.escaped:
            return False
        return any(quote in cell and f"{quote}{cell.replace(quote, 2 * quote)}{quote}" not in written for cell in row)
