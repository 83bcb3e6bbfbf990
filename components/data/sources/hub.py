"""Data sets that the `datasets` library loads or has saved."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from components.data.sources.files import SPLIT_NAMES
from components.data.sources.formats.parquet import to_frame
from components.data.sources.table import CHUNK_CHARS, CHUNK_ROWS, Rejects, Request, Table, numbered
from predictor.errors import InputError, one_line

PREFIX = "hf:"
# A folder that `datasets` saved to disk has one of these: the first for several splits, the second for one.
_SAVED_TO_DISK = ("dataset_dict.json", "state.json")


def is_saved_to_disk(address: str) -> bool:
    """Whether the address is a folder that `Dataset.save_to_disk` made."""
    return any((Path(address) / name).is_file() for name in _SAVED_TO_DISK)


def hub_tables(request: Request) -> Iterator[Table]:
    """Yield the splits of `datasets.load_dataset(NAME)` for `hf:NAME`."""
    yield from _loaded(request, "load_dataset", request.address.removeprefix(PREFIX))


def saved_tables(request: Request) -> Iterator[Table]:
    """Yield the splits of a folder that `datasets` saved."""
    yield from _loaded(request, "load_from_disk", request.address)


def _loaded(request: Request, function: str, argument: str) -> Iterator[Table]:
    import datasets

    try:
        loaded = getattr(datasets, function)(argument)
    except Exception as error:  # the library raises its own errors and those of any file system or format
        raise InputError(
            f"{request.address} cannot be loaded ({type(error).__name__}: {one_line(error)}): check the name and the "
            "network, or give a local folder"
        ) from error
    splits = {"train": loaded} if isinstance(loaded, datasets.Dataset) else loaded
    yield from tables_of(splits, request.address, request)


def tables_of(splits: Mapping[str, Any], name: str, request: Request) -> Iterator[Table]:
    """Yield a table for each split of a `DatasetDict`; the rows stay in its memory-mapped files until they are read."""
    for split, names in SPLIT_NAMES.items():
        found = next((splits[key] for key in names if key in splits), None)
        if found is not None:
            where = f"{name} ({split})"
            classes = getattr(found.features.get(request.column("label")), "names", None)
            yield Table(split, where, numbered(_chunks(found)), Rejects(where), class_names=classes)


def _chunks(dataset: Any) -> Iterator[pd.DataFrame]:
    rows = min(max(CHUNK_CHARS * len(dataset) // max(dataset.data.nbytes, 1), CHUNK_ROWS // 10), CHUNK_ROWS)
    if not len(dataset):
        yield pd.DataFrame(columns=dataset.column_names, dtype=object)
    for batch in dataset.with_format("arrow").iter(batch_size=rows):
        yield to_frame(batch)
