"""Cleaned texts on disk, so that each text is cleaned once and none stays in memory."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

_SHOWN = 200
"""The most characters of a text in a report."""
_SCHEMA = pa.schema([("key", pa.large_string()), ("id", pa.string()), ("start", pa.string()), ("label", pa.string())])


class Scratch:
    """A file with a row for each row that was read, in the same order.

    Args:
        file: it is written first, within a `with` block, and read afterwards.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._starts = [0]

    def __enter__(self) -> "Scratch":
        self._writer = pq.ParquetWriter(self._file, _SCHEMA, compression="lz4")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, chunk: pd.DataFrame, split: str, place: int, keys: Sequence[str]) -> None:
        """Add a chunk whose first row has the number `place` in its split, and whose cleaned texts are `keys`."""
        if chunk.empty:
            return
        self._starts.append(self._starts[-1] + len(chunk))
        numbered = pd.Series([f"{split}-{row}" for row in range(place, place + len(chunk))])
        ids = chunk["id"].map(str, na_action="ignore").fillna(numbered) if "id" in chunk else numbered
        starts = [_printable((text or "")[:_SHOWN]) for text in chunk["text"].fillna("")]
        labels = [_printable(label) for label in chunk["label"].fillna("")]
        columns = [list(keys), [_printable(id_) for id_ in ids], starts, labels]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=_SCHEMA), row_group_size=len(chunk))

    def keys(self, rows: NDArray[np.int64]) -> Iterator[list[str]]:
        """Yield the cleaned texts of these rows, which are in order, in chunks."""
        for table in self._read(rows, ["key"]):
            yield table.column("key").to_pylist()

    def shown(self, rows: NDArray[np.int64]) -> list[dict[str, str]]:
        """Return `id`, `text` (its start) and `label` of these rows, which are in order, for people."""
        found = [row for table in self._read(rows, ["id", "start", "label"]) for row in table.to_pylist()]
        return [{"id": row["id"], "text": row["start"], "label": row["label"]} for row in found]

    def _read(self, rows: NDArray[np.int64], columns: list[str]) -> Iterator[pa.Table]:
        bounds = np.searchsorted(rows, self._starts)
        with pq.ParquetFile(self._file) as parquet:
            for group, (first, last) in enumerate(pairwise(bounds)):
                if last > first:  # each chunk is a row group
                    inside = pa.array(rows[first:last] - self._starts[group])
                    yield parquet.read_row_group(group, columns).take(inside)


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # half of a surrogate pair is no text of a file
