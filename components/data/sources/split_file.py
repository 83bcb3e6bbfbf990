"""Writes the rows of a split as Parquet, chunk by chunk, whatever columns come."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


class SplitFile:
    """A Parquet file that is written in row groups, one at a time in memory.

    A chunk with new columns goes to a new part, and `finish` joins the parts.

    Args:
        file: what is written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._parts: list[Path] = []
        self._writer: pq.ParquetWriter | None = None
        self._schema = pa.schema([])
        self.rows = 0

    def write(self, rows: pa.Table) -> None:
        """Add rows; columns that they lack are empty in them."""
        new = [field for field in rows.schema if field.name not in self._schema.names]
        if new or not self._writer:
            self._close()
            self._schema = pa.schema([*self._schema, *new])
            self._parts.append(self._file.with_name(f".{self._file.name}.{len(self._parts)}"))
            self._writer = pq.ParquetWriter(self._parts[-1], self._schema)
        self._writer.write_table(_widened(rows, self._schema))
        self.rows += len(rows)

    def finish(self, labels: Mapping[str, str]) -> None:
        """Make the file whole.

        Args:
            labels: the name to use for each label; those that are not in it stay.
        """
        self._close()
        if len(self._parts) == 1 and all(label == name for label, name in labels.items()):
            self._parts[0].replace(self._file)
            return
        with pq.ParquetWriter(self._file, self._schema) as writer:
            for rows in self._read():
                named = [labels.get(label, label) for label in rows["label"].to_pylist()]
                column = rows.schema.get_field_index("label")
                writer.write_table(rows.set_column(column, "label", pa.array(named, pa.string())))

    def _read(self) -> Iterator[pa.Table]:
        for part in self._parts:
            with pq.ParquetFile(part) as file:
                for group in range(file.num_row_groups):
                    yield _widened(file.read_row_group(group), self._schema)
            part.unlink()

    def _close(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None


def _widened(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    missing = {field.name: pa.nulls(len(rows), field.type) for field in schema if field.name not in rows.schema.names}
    columns = {name: rows[name] if name in rows.schema.names else missing[name] for name in schema.names}
    return pa.table(columns, schema=schema)
