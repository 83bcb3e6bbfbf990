"""Published data sets by name, where a network is or the library's own cache has them."""

from collections.abc import Iterator

import pandas as pd

from components.data.sources.hub import tables_of
from components.data.sources.table import CHUNK_ROWS, Rejects, Request, Table
from predictor.errors import InputError, Unavailable, one_line

PREFIX = "named:"


def named_tables(request: Request) -> Iterator[Table]:
    """Yield the splits of a published data set.

    Raises:
        InputError: there is no such name.
        Unavailable: the place it is fetched from cannot be reached.
    """
    name = request.address.removeprefix(PREFIX)
    if name not in _NAMED:
        raise InputError(f"{request.address} is no known data set: choose {' or '.join(PREFIX + n for n in _NAMED)}")
    try:
        yield from _NAMED[name](request)
    except Exception as error:  # the libraries raise their own errors and those of the network
        raise Unavailable(
            f"{request.address} cannot be fetched ({type(error).__name__}: {one_line(error)}): try again where a "
            "network is, or give files"
        ) from error


def _newsgroups(request: Request) -> Iterator[Table]:
    """Yield 20 Newsgroups, split by date (Lang 1995), without headers, footers and quotes, which name the group."""
    from sklearn.datasets import fetch_20newsgroups

    for split in ("train", "test"):
        bunch = fetch_20newsgroups(subset=split, remove=("headers", "footers", "quotes"), n_retries=1)
        labels = [bunch.target_names[number] for number in bunch.target]
        frame = pd.DataFrame({"text": bunch.data, "label": labels}, index=pd.RangeIndex(1, len(labels) + 1))
        chunks = (frame[start : start + CHUNK_ROWS] for start in range(0, len(frame), CHUNK_ROWS))
        where = f"{request.address} ({split})"
        yield Table(split, where, chunks, Rejects(where))


def _ag_news(request: Request) -> Iterator[Table]:
    """Yield AG News (Zhang et al. 2015)."""
    import datasets

    yield from tables_of(datasets.load_dataset("fancyzhx/ag_news"), request.address, request)


_NAMED = {"20newsgroups": _newsgroups, "ag_news": _ag_news}
