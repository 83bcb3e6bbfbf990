"""The sources of labelled texts: a new one is a line in `SOURCES`, and a row of the table in docs/data.md."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from components.data.crawl.crawl import read
from components.data.sources import files, hub, named, sql
from components.data.sources.address import safe
from components.data.sources.table import Rejects, Request, Table, numbered
from components.platform.storage import is_remote
from components.tasks.task import default_task
from predictor.errors import InputError

SAMPLE = "sample"
_CRAWL = "crawl:"
SAMPLE_FOLDER = Path(__file__).parents[1] / "sample"
"""A folder for each sample."""


@dataclass(frozen=True)
class Source:
    """One kind of place that texts come from."""

    form: str
    """How its addresses look, as in the documents."""
    fits: Callable[[str], bool]
    """Whether an address is one of its."""
    tables: Callable[[Request], Iterator[Table]]
    """Yields a table for each split; each is read to its end before the next is asked for."""


def _sample_tables(request: Request) -> Iterator[Table]:
    for table in files.local_tables(replace(request, address=str(_sample_folder(request.address)))):
        table.where = request.address
        yield table


def _is_sample(address: str) -> bool:
    return address == SAMPLE or address.startswith(f"{SAMPLE}:")


def _sample_folder(address: str) -> Path:
    """Return the folder of `sample:NAME`, and of the sample of the default task for `sample`."""
    name = (default_task().data if address == SAMPLE else address).removeprefix(f"{SAMPLE}:")
    names = sorted(folder.name for folder in SAMPLE_FOLDER.iterdir() if folder.is_dir())
    if name not in names:
        raise InputError(f"there is no sample '{name}': choose {' or '.join(f'{SAMPLE}:{each}' for each in names)}")
    return SAMPLE_FOLDER / name


def _crawled_tables(request: Request) -> Iterator[Table]:
    yield Table("train", request.address, numbered(_crawled(request.address)), Rejects(request.address))


def _crawled(address: str) -> Iterator[pd.DataFrame]:
    try:
        yield from read(Path(address.removeprefix(_CRAWL)))
    except ModuleNotFoundError as error:
        raise InputError(
            f"{address} needs {error.name}, which is not installed: pip install 'pigeonhole[crawl]'"
        ) from error


def _begins(prefix: str) -> Callable[[str], bool]:
    return lambda address: address.startswith(prefix)


SOURCES = (
    Source("sample or sample:NAME", _is_sample, _sample_tables),
    Source("hf:NAME", _begins(hub.PREFIX), hub.hub_tables),
    Source("named:NAME", _begins(named.PREFIX), named.named_tables),
    Source("crawl:FILE", _begins(_CRAWL), _crawled_tables),
    Source("sql:URL", _begins(sql.PREFIX), sql.sql_tables),
    Source("SCHEME://PATH", is_remote, files.remote_tables),
    Source("a folder that datasets saved", hub.is_saved_to_disk, hub.saved_tables),
    Source("a folder or a file", lambda address: True, files.local_tables),
)
"""The first that fits an address reads it."""


def tables(request: Request) -> Iterator[Table]:
    """Yield a table for each split of the source that fits the address."""
    source = next(source for source in SOURCES if source.fits(request.address))
    yield from source.tables(request)


def beside(address: str, name: str) -> bytes | None:
    """Return the content of a file beside the split files of a folder, None where there is none, or no folder.

    Raises:
        InputError: it cannot be read.
    """
    if _is_sample(address):
        address = str(_sample_folder(address))
    if (is_remote(address) and not address.startswith(sql.PREFIX)) or Path(address).is_dir():
        return files.companion(address, name)
    return None


def name_of(address: str) -> str:
    """Return the address as it may be shown and stored: without user, password, query and fragment."""
    return safe(address)
