"""Reads Parquet in batches."""

import json
from collections.abc import Iterator, Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.sources.table import CHUNK_CHARS, CHUNK_ROWS


def read_parquet(file: pq.ParquetFile) -> Iterator[pd.DataFrame]:
    """Yield the rows of a Parquet file; integers stay integers beside missing values, a named index becomes columns.

    The columns of a file without rows are in a chunk without rows.
    """
    if not file.metadata.num_rows:
        yield to_frame(file.schema_arrow.empty_table())
    yield from map(to_frame, chunks(file))


def chunks(file: pq.ParquetFile) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file in tables of at most `CHUNK_ROWS` rows, fewer where texts are long."""
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group)
        # As many rows as fit into a chunk; at least a tenth, since a few long texts say little of the others.
        wanted = CHUNK_CHARS * size.num_rows // max(size.total_byte_size, 1)
        rows = min(max(wanted, CHUNK_ROWS // 10), CHUNK_ROWS)
        for batch in file.iter_batches(batch_size=rows, row_groups=[group]):
            yield pa.Table.from_batches([batch])


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as a frame of Python values; text that is not UTF-8 stays bytes."""
    try:
        frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
    except UnicodeDecodeError:
        fields = [pa.field(f.name, pa.binary() if pa.types.is_string(f.type) else f.type) for f in table.schema]
        frame = table.cast(pa.schema(fields, table.schema.metadata)).to_pandas(integer_object_nulls=True)
    return frame.reset_index() if any(frame.index.names) else frame


def class_names(schema: pa.Schema, column: str) -> Sequence[str] | None:
    """Return the class names that the `datasets` library stores in Parquet files, or None."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        return [str(name) for name in feature["names"]] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None
