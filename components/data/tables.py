"""Reads tables from CSV, JSON lines and Parquet files, also gzipped, as programs and people write them."""

import csv
import gzip
import io
import itertools
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.platform.progress import say
from predictor.errors import InputError, one_line

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet", ".parquet.gz")
# Spreadsheets separate by semicolons in countries that write numbers with a decimal comma.
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
# Greatest number of bad lines that an error names.
_NAMED = 3


def read_table(file: Path, tell: Callable[[str], None] = say) -> pd.DataFrame:
    """Read a file with one of the SUFFIXES, with all its columns.

    The cells of a CSV are strings, or None if they are empty. A row with another number of fields than the header is
    refused, because it is unclear which field belongs to which column. The separator is the one with which the header
    has a column `text`.

    Args:
        file: the file.
        tell: gets a sentence if the separator is not a comma.

    Raises:
        InputError: the file cannot be read.
    """
    kind = file.name.removesuffix(".gz")
    if kind.endswith(".csv"):
        frame = _read_csv(file, tell)
    elif kind.endswith(".jsonl"):
        frame = _read_json_lines(file)
    else:
        with _parquet(file) as parquet:
            frame = to_frame(parquet.read())
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InputError(f"{file} has several columns '{twice}': keep one or rename the others")
    return frame


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines of a UTF-8 file that are not blank, without their line ends.

    Raises:
        InputError: the file cannot be read.
    """
    with _opened(file, "\n") as stream:  # only \n ends a line: a text may contain U+2028
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, line.removesuffix("\n").removesuffix("\r")


def class_names(file: Path, column: str) -> list[str] | None:
    """Return the class names that the `datasets` library stores in Parquet files, or None."""
    if not file.name.removesuffix(".gz").endswith(".parquet"):
        return None
    with _parquet(file) as parquet:
        metadata = parquet.schema_arrow.metadata or {}
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        return [str(name) for name in feature["names"]] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as a frame: integers stay integers beside missing values, and a named index becomes columns."""
    frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
    return frame.reset_index() if any(frame.index.names) else frame


def _read_csv(file: Path, tell: Callable[[str], None]) -> pd.DataFrame:
    header: list[str] = []
    rows: list[list[str | None]] = []
    odd: list[str] = []
    csv.field_size_limit(sys.maxsize)  # a text may be a book
    with _opened(file, "") as stream:
        first = stream.readline()
        fits = (separator for separator in _SEPARATORS if "text" in next(csv.reader([first], delimiter=separator), []))
        separator = next(fits, ",")
        for line, row in _csv_rows(file, itertools.chain([first], stream), separator):
            if not header:
                header = row
            elif len(row) == len(header):
                rows.append([cell or None for cell in row])
            elif len(row) > 1 or row[0].strip():
                odd.append(f"line {line} has {len(row)}")
    if not header:
        raise _unreadable(file, "it is empty")
    if odd:
        more = f" and {len(odd) - _NAMED:,} more rows differ" if len(odd) > _NAMED else ""
        raise InputError(
            f"{file} has rows of another number of fields than its header, which has {len(header)}: "
            f"{', '.join(odd[:_NAMED])}{more}; put texts that hold a '{separator}' in double quotes"
        )
    if separator != ",":
        tell(f"{file}: columns separated by {_SEPARATORS[separator]}")
    names = [name or f"Unnamed: {number}" for number, name in enumerate(header)]  # as pandas calls them
    return pd.DataFrame(rows, columns=names, dtype=object)


def _csv_rows(file: Path, lines: Iterator[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the number of its first line."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"{file}, line {line} cannot be read ({error}): put texts with quotes or line ends in double quotes, "
                "and double the quotes in them"
            ) from error
        if row:
            yield line, row


def _read_json_lines(file: Path) -> pd.DataFrame:
    rows = []
    for number, line in read_lines(file):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}, line {number} is no JSON ({error}): give one object a line") from error
        if not isinstance(row, dict):
            raise InputError(f"{file}, line {number} is no JSON object: give one with a text a line")
        if "\\ud" in line.lower():
            # Drop half of a surrogate pair, which is left when a text is cut: UTF-8 has no such character
            row = json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "ignore"))
        rows.append(row)
    return pd.DataFrame(rows, dtype=object)


@contextmanager
def _parquet(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        source = io.BytesIO(gzip.decompress(file.read_bytes())) if file.suffix == ".gz" else file
        with pq.ParquetFile(source) as parquet:
            yield parquet
    except Exception as error:  # pyarrow, pandas, gzip and the file system raise different errors
        raise _unreadable(file, str(error)) from error


@contextmanager
def _opened(file: Path, newline: str) -> Iterator[TextIO]:
    try:
        with _bytes(file) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline=newline) as stream:
            yield stream
    except UnicodeDecodeError as error:
        raise InputError(f"{file}, line {_undecodable(file)} is not UTF-8: save the file as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(file, str(error)) from error


def _bytes(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


def _undecodable(file: Path) -> int:
    """Return the number of the first line that is not UTF-8; no character of UTF-8 is on two lines."""
    with _bytes(file) as raw:
        for number, line in enumerate(raw, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    raise AssertionError("it was read before, and one was not")


def _unreadable(file: Path, reason: str) -> InputError:
    return InputError(f"{file} cannot be read ({one_line(reason)}): give UTF-8 CSV, JSON lines or Parquet")
