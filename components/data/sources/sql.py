"""Rows of a query, from any database that SQLAlchemy has a dialect for."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from components.data.sources.address import masked
from components.data.sources.table import CHUNK_ROWS, Rejects, Request, Table, numbered
from predictor.errors import InputError, one_line

PREFIX = "sql:"
_ROWS = CHUNK_ROWS // 10
"""Rows that are fetched at once."""


def sql_tables(request: Request) -> Iterator[Table]:
    """Yield the rows of a query as the train split.

    The rows come through a server-side cursor where the database has one, so that the client never holds all of them.
    Nothing is committed.
    """
    import sqlalchemy

    try:
        url = sqlalchemy.make_url(request.address.removeprefix(PREFIX))
    except sqlalchemy.exc.ArgumentError:
        raise InputError(
            "the address after sql: is no SQLAlchemy URL: write one such as sql:postgresql+psycopg://host/database"
        ) from None
    if not request.query:
        raise InputError("sql: says where the rows are, not which: give --query 'SELECT text, label FROM ...'")
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).is_file():
        raise InputError(f"{_where(url)} does not exist: give the path of a SQLite file")  # SQLite would make one
    where = _where(url)
    yield Table("train", where, numbered(_chunks(url, request, where)), Rejects(where))


def _where(url: Any) -> str:
    """Return what may be said: the kind, the host and the database, not the user, the password or the options."""
    port = f":{url.port}" if url.port else ""
    return f"{PREFIX}{url.get_backend_name()}://{url.host or ''}{port}/{url.database or ''}"


def _chunks(url: Any, request: Request, where: str) -> Iterator[pd.DataFrame]:
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(url)
        try:
            yield from _rows(engine, request.query, where)
        finally:
            engine.dispose()
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{where} needs the driver {error.name}, which is not installed: install it") from None
    except Exception as error:  # drivers raise their own errors beside SQLAlchemy's
        reason = masked(getattr(error, "orig", None) or error, request.address)
        raise InputError(
            f"{where} cannot be read ({type(error).__name__}: {one_line(reason)}): look at the address and the query"
        ) from None


def _rows(engine: Any, query: str, where: str) -> Iterator[pd.DataFrame]:
    # What the driver is given, with no parameters, so that % and : in the query are no place for one
    options = {"stream_results": True, "max_row_buffer": _ROWS, "no_parameters": True}
    with (
        engine.connect() as connection,
        closing(connection.execution_options(**options).exec_driver_sql(query)) as result,
    ):
        if not result.returns_rows:
            raise InputError(f"{where}: the query gives no rows: write a SELECT")
        names = list(result.keys())
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"{where}: the query gives several columns '{min(twice)}': name each once, with AS")
        yield pd.DataFrame(columns=names, dtype=object)  # a query without rows has columns, too
        for rows in result.partitions(_ROWS):
            yield pd.DataFrame([tuple(row) for row in rows], columns=names, dtype=object)
