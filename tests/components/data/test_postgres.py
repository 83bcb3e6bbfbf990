"""Rows of a query from a real PostgreSQL: its types, and as many rows as one likes."""

import itertools
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pandas as pd
import pytest
import sqlalchemy

from components.data.collect import collect, collect_frames, load_collected
from components.data.sources.sql import sql_tables
from components.data.sources.table import Request
from predictor.errors import InputError
from tests.postgres_server import MISSING, running

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with running() as url:
        engine = sqlalchemy.create_engine(url)
        with engine.begin() as begun:
            connection = begun.execution_options(no_parameters=True)
            connection.exec_driver_sql(
                "create table tickets (id bigint, body text, stars numeric(2, 1), opened timestamptz, tags text[])"
            )
            connection.exec_driver_sql(
                """insert into tickets select n, E'Größe "' || n || E'",\\n100% 東京', n % 5 + 0.5,
                timestamptz '2026-01-01 12:00+00' + n * interval '1 minute', array['a', 'b']
                from generate_series(0, 24999) n"""
            )
            connection.exec_driver_sql("insert into tickets values (25000, null, 1.5, null, null)")
        engine.dispose()
        yield url


def test_values_of_its_types_are_text(database: str, tmp_path: Path) -> None:
    query = (
        "SELECT body AS text, stars AS label, opened AT TIME ZONE 'UTC' AS opened, tags, id FROM tickets ORDER BY id"
    )
    summary = collect(f"sql:{database}", tmp_path / "out", query=query, tell=print)
    frame = load_collected(tmp_path / "out")["train"]
    assert database.rpartition("@")[2] in summary.source and "desk" not in summary.source
    first, last = frame.iloc[0], frame.iloc[24_999]
    assert first[["text", "label", "id"]].tolist() == ['Größe "0",\n100% 東京', "0.5", "0"]
    assert last[["text", "label", "opened", "id"]].tolist() == [
        'Größe "24999",\n100% 東京', "4.5", "2026-01-18T20:39:00", "24999",
    ]  # fmt: skip
    assert summary.rows == {"train": 25_001} and summary.rejected == {}
    assert frame.iloc[25_000]["text"] is None  # NULL, which prepare leaves out and counts


def test_rows_come_before_the_query_has_ended(database: str) -> None:
    endless = "SELECT 'text ' || n AS text, 'a' AS label FROM (SELECT generate_series(1, 1000000000000) AS n) AS s"
    (table,) = sql_tables(Request(f"sql:{database}", {}, endless))
    with closing(cast("Generator[pd.DataFrame]", table.chunks)) as chunks:
        frames = itertools.islice(chunks, 3)
        assert next(text for frame in frames for text in frame.get("text", [])) == "text 1"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("SELECT missing FROM tickets", 'column "missing" does not exist'),
        ("SELECT 1 / (id - 20000) AS text, 'a' AS label FROM tickets ORDER BY id", "division by zero"),
        ("CREATE TABLE other (n int)", "syntax error at or near .CREATE.*: look at the address and the query"),
    ],
)
def test_what_it_refuses_is_said(database: str, query: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        collect_frames(f"sql:{database}", query=query)
    engine = sqlalchemy.create_engine(database)
    assert sqlalchemy.inspect(engine).get_table_names() == ["tickets"]
    engine.dispose()


def test_a_wrong_password_stays_unsaid(database: str) -> None:
    address = database.replace("desk@", f"nobody-{os.getpid()}:hunter2@")
    with pytest.raises(InputError, match=r"role .* does not exist") as caught:
        collect_frames(f"sql:{address}", query="SELECT 1")
    assert "hunter2" not in str(caught.value)
