"""The kept rows of each split, from the chunks that were read to the files of the artifact."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.data.behaviour.lines import BEHAVIOUR_FILE, check_labels, read_behaviour
from components.data.dataset import COLUMNS, FOLD, SPLITS, Digest
from components.data.preparing.chunks import Chunks
from components.data.preparing.rows import Fate, Rows


def kept_rows(sources: dict[str, Chunks], rows: Rows, split: int) -> Iterator[pd.DataFrame]:
    """Yield the rows of a split in chunks: `id`, `text`, `label` and the other columns.

    The ids are those that were given, if each row of the split has one of its own; otherwise the split's name and the
    row's number in the file that it is from.
    """
    kept = rows.kept(split)
    prefix = "" if have_own_ids(rows.id[kept]) else SPLITS[split]
    has_folds = _has_folds(rows, split)
    for source in np.unique(rows.given[kept]):
        for numbers, chunk in rows_of(sources, rows.names[source], rows, split, prefix):
            if has_folds:
                chunk[FOLD] = rows.fold[numbers]
            yield chunk[[*COLUMNS, *(column for column in chunk.columns if column not in COLUMNS)]]


def rows_of(
    sources: dict[str, Chunks], name: str, rows: Rows, split: int, prefix: str
) -> Iterator[tuple[NDArray[np.int64], pd.DataFrame]]:
    """Yield those rows of a source that are kept in a split, in chunks, and their numbers among all rows.

    Args:
        sources: all sources, in the order of the rows.
        name: the source.
        rows: what was decided.
        split: as a position in SPLITS.
        prefix: what stands in an id before the row's number in the source; empty where ids are those that were given.
    """
    first = place = int(np.searchsorted(rows.given, rows.names.index(name)))  # source after source
    for chunk in sources[name].read():
        numbers = np.arange(place, place + len(chunk))
        place += len(chunk)
        keep = (rows.split[numbers] == split) & (rows.fate[numbers] == Fate.KEPT)
        numbers, kept = numbers[keep], chunk[keep].reset_index(drop=True)
        kept["id"] = [f"{prefix}-{number}" for number in numbers - first] if prefix else kept["id"].map(str)
        kept["label"] = [rows.labels[label] for label in rows.label[numbers]]
        yield numbers, kept


def have_own_ids(ids: NDArray[np.uint64]) -> bool:
    """Return whether each row, given the hashes of the ids, came with one that no other has."""
    return len(ids) > 0 and bool(ids.all()) and len(np.unique(ids)) == len(ids)


def write(sources: dict[str, Chunks], rows: Rows, folder: Path) -> str:
    """Write the Parquet file of each split into a folder, and return the digest of all."""
    digest = Digest()
    for split, name in enumerate(SPLITS):
        schema = _schema(sources, rows, split)
        digest.begin(name, len(rows.kept(split)))
        with pq.ParquetWriter(folder / f"{name}.parquet", schema) as writer:
            for chunk in kept_rows(sources, rows, split):
                digest.add(chunk)
                if len(chunk):
                    writer.write_table(pa.Table.from_pandas(chunk, schema, preserve_index=False))
    return digest.hexdigest()


def write_behaviour(folders: Iterable[Path], labels: Sequence[str], out: Path, declared: Sequence[str] = ()) -> None:
    """Copy the behavioural tests of the first folder that has some, if they fit the labels.

    Args:
        folders: where to look.
        labels: those of the data.
        out: the folder that gets them.
        declared: the task's labels. Tests that expect one of them which the data lacks are left out.

    Raises:
        InputError: they ask for a label that is not there: now, and not after hours of training.
    """
    for tests in (folder / BEHAVIOUR_FILE for folder in folders):
        if tests.is_file():
            lines = read_behaviour(tests)
            absent = set(declared) - set(labels)
            kept = [line for line in lines if line.label not in absent]
            check_labels(kept, labels)
            if len(kept) == len(lines):
                shutil.copyfile(tests, out / BEHAVIOUR_FILE)
            else:
                raw = "".join(line.model_dump_json(exclude_unset=True) + "\n" for line in kept)
                (out / BEHAVIOUR_FILE).write_text(raw, encoding="utf-8")
            return


def _schema(sources: dict[str, Chunks], rows: Rows, split: int) -> pa.Schema:
    """Return the columns of the file from which a split comes, with their types."""
    given = rows.given[rows.kept(split)]
    schema = sources[rows.names[given[0]]].schema
    assert schema is not None
    others = [field for field in schema.remove_metadata() if field.name not in COLUMNS]
    folds = [pa.field(FOLD, pa.int8())] if _has_folds(rows, split) else []
    return pa.schema([*(pa.field(name, pa.string()) for name in COLUMNS), *others, *folds])


def _has_folds(rows: Rows, split: int) -> bool:
    return bool((rows.fold[rows.kept(split)] >= 0).any())
