"""Reads tables from CSV, TSV, JSON lines and Parquet files, also gzipped, as programs and people write them."""

import gzip
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pandas as pd
import pyarrow.parquet as pq

from components.data.sources.formats.delimited import read_delimited
from components.data.sources.formats.json_lines import read_json_lines
from components.data.sources.formats.parquet import class_names, read_parquet
from components.data.sources.formats.text import UNDECODABLE, Text
from components.data.sources.table import ADVICE, BYTES, Rejects, Request, Table, numbered
from components.platform.progress import say
from predictor.errors import InputError, one_line

SUFFIXES = tuple(kind + packed for kind in (".csv", ".tsv", ".jsonl", ".parquet") for packed in ("", ".gz"))


@dataclass(frozen=True)
class File:
    """A file on this machine or elsewhere."""

    name: str
    """Its end says what it is."""
    where: str
    """What messages call it; without credentials."""
    open: Callable[[], AbstractContextManager[BinaryIO]]
    explained: Callable[[Exception], str] = one_line
    """Returns the text of an error without credentials."""

    @classmethod
    def local(cls, path: Path) -> "File":
        """Return a file of this machine."""
        return cls(path.name, str(path), lambda: path.open("rb"))

    @property
    def kind(self) -> str:
        """What it holds, such as `.csv`, compressed or not."""
        return Path(self.name.removesuffix(".gz")).suffix


def table_of(file: File, split: str, request: Request) -> Table:
    """Return the rows of a file whose name ends in one of `SUFFIXES`; nothing is read yet."""
    table = Table(split, file.where, iter(()), Rejects(file.where))
    table.loose = file.kind == ".jsonl"
    table.unit = "row" if file.kind == ".parquet" else "line"
    table.chunks = _chunks(file, table, request)
    return table


def _chunks(file: File, table: Table, request: Request) -> Iterator[pd.DataFrame]:
    with _errors_explained(file), _unpacked(file) as stream:
        if file.kind == ".parquet":
            with _on_disk(stream) as seekable, pq.ParquetFile(seekable) as parquet:
                table.class_names = class_names(parquet.schema_arrow, request.column("label"))
                yield from _unambiguous(numbered(read_parquet(parquet)), file)
        else:
            text = Text(stream, file.where)
            rows = (
                read_json_lines(text, table)
                if file.kind == ".jsonl"
                else _unambiguous(read_delimited(text, table, request), file)
            )
            yield from rows
            if text.encoding != "utf-8":
                request.tell(f"{file.where}: read as {text.encoding.upper()}")


def _unambiguous(chunks: Iterator[pd.DataFrame], file: File) -> Iterator[pd.DataFrame]:
    for chunk in chunks:
        if chunk.columns.has_duplicates:
            twice = chunk.columns[chunk.columns.duplicated()][0]
            raise InputError(f"{file.where} has several columns '{twice}': keep one or rename the others")
        yield chunk


def read_table(path: Path, tell: Callable[[str], None] = say) -> pd.DataFrame:
    """Read a file with one of the `SUFFIXES`, with all its rows and columns.

    The cells of a CSV are strings, or None if they are empty.

    Args:
        path: the file.
        tell: gets a sentence about what is unusual, such as a separator that is not a comma.

    Raises:
        InputError: the file or a single row of it cannot be read.
    """
    table = table_of(File.local(path), "", Request(str(path), tell=tell))
    chunks = list(table.chunks)
    if table.rejects.counts:
        reason, _ = table.rejects.counts.most_common(1)[0]
        raise InputError(f"{path} has broken rows: {table.rejects.sentence(reason)}; {ADVICE[reason]}")
    filled = [chunk for chunk in chunks if len(chunk)] or chunks[:1]
    return pd.concat(filled, ignore_index=True)


def read_lines(path: Path, tell: Callable[[str], None] = say) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines of a text file that are not blank, without their line ends.

    Raises:
        InputError: the file or a line of it cannot be read.
    """
    file = File.local(path)
    with _errors_explained(file), _unpacked(file) as stream:
        text = Text(stream, file.where)
        for number, line in enumerate(text.lines("\n"), start=1):  # only \n ends a line: a text may contain U+2028
            if text.damaged and UNDECODABLE.search(line):
                raise InputError(f"{path}, line {number} is not {text.encoding.upper()}: {ADVICE[BYTES]}")
            if line.strip():
                yield number, line.removesuffix("\n").removesuffix("\r")
        if text.encoding != "utf-8":
            tell(f"{path}: read as {text.encoding.upper()}")


@contextmanager
def _unpacked(file: File) -> Iterator[BinaryIO]:
    with file.open() as raw:
        if file.name.endswith(".gz"):
            with gzip.open(raw) as stream:
                yield cast(BinaryIO, stream)
        else:
            yield raw


@contextmanager
def _on_disk(stream: BinaryIO) -> Iterator[BinaryIO]:
    """Yield a file in which one can go back; Parquet is read from its end."""
    try:
        stream.fileno()
        plain = not isinstance(stream, gzip.GzipFile)
    except (OSError, AttributeError):
        plain = False
    if plain:
        yield stream
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(stream, copy, 1 << 20)
        copy.seek(0)
        yield copy


@contextmanager
def _errors_explained(file: File) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # pyarrow, gzip, zlib, the file system and fsspec's drivers raise different errors
        raise InputError(
            f"{file.where} cannot be read ({one_line(file.explained(error))}): give CSV, TSV, JSON lines or Parquet"
        ) from error
