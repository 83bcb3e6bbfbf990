"""Rows of a split in chunks, from a Parquet file or a frame, and what a chunk must look like."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.dataset import COLLECTED_FILE, SPLITS
from predictor.errors import InputError, one_line

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema

CHUNK = 10_000
"""The most rows of a chunk."""
_TEXT = ("text", "label")


@dataclass(frozen=True)
class Chunks:
    """Rows that can be read again and again, a chunk at a time."""

    rows: int
    columns: list[str]
    read: Callable[[], Iterator[pd.DataFrame]]
    schema: pa.Schema | None = None
    """The types of the columns, where they are known before any row is read."""


def of_frame(frame: pd.DataFrame) -> Chunks:
    """Return the rows of a frame in chunks."""

    def read() -> Iterator[pd.DataFrame]:
        for start in range(0, len(frame), CHUNK):
            yield frame.iloc[start : start + CHUNK].reset_index(drop=True)

    return Chunks(len(frame), list(map(str, frame.columns)), read)


def of_file(file: Path, rows_at_a_time: int = CHUNK) -> Chunks:
    """Return the rows of a Parquet file in chunks.

    Raises:
        InputError: it cannot be read; also while chunks are read.
    """

    def read() -> Iterator[pd.DataFrame]:
        try:
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(rows_at_a_time):
                    yield pa.Table.from_batches([batch]).to_pandas(integer_object_nulls=True, ignore_metadata=True)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(file, error) from error

    try:
        with pq.ParquetFile(file) as parquet:
            rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(file, error) from error
    return Chunks(rows, schema.names, read, schema)


def of_folder(folder: Path, rows_at_a_time: int = CHUNK) -> dict[str, Chunks]:
    """Return the rows of each split of a collected artifact; train first.

    Raises:
        InputError: there is no train split, or a file cannot be read.
    """
    files = {name: folder / f"{name}.parquet" for name in SPLITS}
    found = {name: of_file(file, rows_at_a_time) for name, file in files.items() if file.is_file()}
    if "train" not in found:
        raise InputError(f"{folder} has no train.parquet: run the collect step again")
    return found


def about(folder: Path) -> dict[str, Any]:
    """Return what the collect step says of a collected artifact; nothing where rows are from elsewhere."""
    file = folder / COLLECTED_FILE
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(f"{file} cannot be read ({one_line(error)}): run the step that wrote it again")


def check_schema(chunk: pd.DataFrame, split: str, place: int) -> None:
    """Refuse a chunk in which a column is missing or of another type.

    Args:
        chunk: the rows.
        split: where they are from.
        place: the number of the first row, from 0 on.

    Raises:
        InputError: it says which column, and in which rows.
    """
    from pandera.errors import SchemaError

    try:
        _schema().validate(chunk)
    except SchemaError as error:
        where = f"{split}, rows {place + 1:,} to {place + len(chunk):,}"
        raise InputError(f"{where}: {one_line(error)}; give text and label as text, and synthetic as truth") from error


@cache
def _schema() -> "DataFrameSchema":
    # pandera takes seconds to import
    from pandera.pandas import Check, Column, DataFrameSchema

    text = Check(_is_text, name="text", error="not all of it is text")
    columns = {name: Column(object, text, nullable=True) for name in _TEXT}
    optional = {"synthetic": Column(bool, required=False)}
    return DataFrameSchema({**columns, **optional}, unique_column_names=True)


def _is_text(column: "pd.Series[str]") -> bool:
    return pd.api.types.infer_dtype(column, skipna=True) in ("string", "empty")
