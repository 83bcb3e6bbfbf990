"""The rows of large files, of any kind, as Arrow tables of one schema: every row, in order, a chunk at a time."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.cells import as_note, as_text
from components.data.sources.formats.parquet import chunks as parquet_chunks
from components.data.sources.table import KIND, Rejects, Request, Table
from components.data.sources.tables import SUFFIXES, File, table_of
from predictor.errors import InputError, one_line

UNREADABLE = "_unreadable"
"""A column of a part: why the line that stood here is no row; null for rows."""
TRUTH = "_canary"
"""A column of a part: the label of a row that was mixed in and does not come out; null for the rows of the input."""
ADDED = ("predicted_label", "confidence", "reason", "probabilities")
"""Columns that scoring adds."""

_LINE = re.compile(r"line (\d+)")


@dataclass(frozen=True)
class Input:
    """Files whose rows follow each other, and the columns that all of them have."""

    files: tuple[Path, ...]
    schema: pa.Schema
    text: str
    """The column with the texts."""
    label: str | None
    """The column with labels; None where no row has one."""


@dataclass
class _Lines(Rejects):
    """Keeps each line that is no row, with its number, to give it a row of its own."""

    waiting: list[tuple[int, str]] = field(default_factory=list)

    def add(self, reason: str, place: str) -> None:
        super().add(reason, place)
        number = _LINE.search(place)
        self.waiting.append((int(number[1]) if number else 0, f"{reason} ({place})"))


def open_input(place: Path, text: str, label: str) -> Input:
    """Return the files of an input, and their columns.

    Args:
        place: a file, or a folder with files of one kind, which are read in the order of their names.
        text: the column with the texts.
        label: the column with labels, if there is one.

    Raises:
        InputError: there is no such file, one cannot be read, or it lacks the column or has one that scoring adds.
    """
    if place.is_dir():
        files = tuple(sorted(file for file in place.iterdir() if file.name.endswith(SUFFIXES)))
    else:
        files = (place,) if place.is_file() and place.name.endswith(SUFFIXES) else ()
    if not files:
        raise InputError(f"{place} is no table and no folder with one: give a file that ends in {', '.join(SUFFIXES)}")
    schema = _schema(files)
    if text not in schema.names:
        names = ", ".join(name for name in schema.names if name != UNREADABLE)
        raise InputError(f"{place} has no column '{text}' (it has: {names}): name it with --column text=NAME")
    if taken := [name for name in (*ADDED, TRUTH) if name in schema.names]:
        raise InputError(f"{place} has a column '{taken[0]}', which scoring would write: rename it")
    return Input(files, schema, text, label if label in schema.names else None)


def chunks(given: Input) -> Iterator[pa.Table]:
    """Yield all rows of an input, in order, in tables of its schema with at most `CHUNK_ROWS` rows."""
    for file in given.files:
        for chunk in _parquet(file) if _is_parquet(file) else _lines(file, given.text):
            yield _fitted(chunk, given.schema, file)


def writer(file: Path, schema: pa.Schema, text: str) -> pq.ParquetWriter:
    """Return what writes a part: no dictionary is looked for among texts, of which few are alike."""
    return pq.ParquetWriter(
        file, schema, compression="zstd", use_dictionary=[name for name in schema.names if name != text]
    )


def _is_parquet(file: Path) -> bool:
    return file.name.endswith(".parquet")


def _schema(files: tuple[Path, ...]) -> pa.Schema:
    """Return the columns of all files: those of Parquet as they are, of others as text, in the order they come up."""
    if _is_parquet(files[0]):
        with _opened(files[0]) as parquet:
            found: pa.Schema = parquet.schema_arrow
        if len(set(found.names)) < len(found.names) or UNREADABLE in found.names:
            raise InputError(f"{files[0]} has two columns of one name, or one named {UNREADABLE}: rename it")
        return pa.schema([each.with_nullable(True) for each in found], found.metadata)
    names: dict[str, None] = {}
    for file in files:
        if file.name.endswith((".jsonl", ".jsonl.gz")):  # each object may have names of its own
            names.update(dict.fromkeys(str(name) for chunk in _table(file).chunks for name in chunk.columns))
        else:
            names.update(dict.fromkeys(next(_table(file).chunks).columns))
    return pa.schema([(name, pa.string()) for name in (*names, UNREADABLE)])


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} is no Parquet file that can be read ({one_line(error)}): write it again") from error


def _parquet(file: Path) -> Iterator[pa.Table]:
    with _opened(file) as parquet:
        try:
            yield from parquet_chunks(parquet)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{file} cannot be read to its end ({one_line(error)}): copy it again") from error


def _table(file: Path) -> Table:
    table = table_of(File.local(file), "", Request(str(file), tell=lambda sentence: None))
    table.rejects = _Lines(table.where)
    return table


def _lines(file: Path, text: str) -> Iterator[pa.Table]:
    """Yield the rows of a file of lines, and in the place of each line that is none a row that says so."""
    table = _table(file)
    lines = table.rejects
    assert isinstance(lines, _Lines)
    rows = 0
    for chunk in table.chunks:
        rows += len(chunk)
        yield _with_rejects(chunk, lines, text)
    lines.check(rows, last=True)


def _with_rejects(chunk: pd.DataFrame, lines: _Lines, text: str) -> pa.Table:
    numbers = [*chunk.index, *(number for number, _ in lines.waiting)]
    columns = {str(name): _column(chunk[name], len(lines.waiting)) for name in chunk.columns}
    reasons: list[str | None] = [None] * len(chunk)
    if text in chunk and not _all_text(chunk[text]):
        reasons = [*map(_no_text, chunk[text])]
    reasons += [reason for _, reason in lines.waiting]
    order = sorted(range(len(numbers)), key=numbers.__getitem__)  # stable: one line may be counted twice
    lines.waiting.clear()
    return pa.table({**columns, UNREADABLE: pa.array(reasons, pa.string())}).take(pa.array(order, pa.int64()))


def _column(cells: pd.Series, rejects: int) -> pa.Array:
    """Return the cells as text, whatever they are, and missing ones for the lines that are no rows."""
    values = cells.tolist()
    if not _all_text(cells):
        values = [cell if isinstance(cell, str) else as_note(cell) for cell in values]
    return pa.array([*values, *([None] * rejects)], pa.string())


def _all_text(cells: pd.Series) -> bool:
    """Whether each cell is a text or missing, as all are in CSV; a column of them is not gone through in Python."""
    return pd.api.types.infer_dtype(cells, skipna=True) in ("string", "empty")


def _no_text(cell: object) -> str | None:
    """Return why a cell is no text, if it is none; a missing one is told apart later."""
    if isinstance(cell, str):
        return None
    try:
        as_text(cell)
    except (TypeError, UnicodeDecodeError):
        return KIND
    return None


def _fitted(chunk: pa.Table, schema: pa.Schema, file: Path) -> pa.Table:
    """Return a chunk with the columns of the schema."""
    if chunk.schema.names == schema.names and chunk.schema.types == schema.types:
        return chunk.cast(schema)
    if UNREADABLE not in schema.names or (more := set(chunk.schema.names) - set(schema.names)):
        what = f"a column '{min(more)}'" if UNREADABLE in schema.names else "other columns"
        raise InputError(f"{file} has {what} that the first file has not: score it by itself")
    missing = pa.nulls(len(chunk), pa.string())
    return pa.table([chunk[name] if name in chunk.schema.names else missing for name in schema.names], schema=schema)
