"""Each source of the registry: real servers and databases, and no secret in what is said and stored."""

import gzip
import json
import pickle
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.data.collect import collect, collect_frames, load_collected
from components.data.sources.address import masked, safe
from components.data.sources.registry import SOURCES
from predictor.errors import InputError, Unavailable
from tests.conftest import ROOT
from tests.fakes.storage import object_storage

ROWS = "body,topic,author\ntext one,a,x\ntext two,b,y\n"
COLUMNS = {"text": "body", "label": "topic"}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Serve the folder `web`, which has rows in each format."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "train.csv").write_text(ROWS)
    (folder / "dev.csv.gz").write_bytes(gzip.compress(ROWS.encode()))
    pd.read_csv(folder / "train.csv").to_parquet(folder / "test.parquet")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_web_address_is_read_and_its_secrets_are_not_kept(web: str, tmp_path: Path) -> None:
    told: list[str] = []
    for file in ("train.csv", "dev.csv.gz", "test.parquet"):
        address = f"http://ann:hunter2@{web}/{file}?signature=s3cret"
        summary = collect(address, tmp_path / "out", COLUMNS, tell=told.append)
        frame = load_collected(tmp_path / "out")["train"]
        assert frame["text"].tolist() == ["text one", "text two"] and frame["author"].tolist() == ["x", "y"]
        assert set(frame["source"]) == {summary.source} == {f"http://{web}/{file}"}
        written = (tmp_path / "out" / "collected.json").read_text() + "".join(told)
        assert not any(secret in written for secret in ("ann", "hunter2", "s3cret"))


def test_what_is_not_on_the_web_is_an_error_without_secrets(web: str, tmp_path: Path) -> None:
    for place in (f"{web}/none.csv", "127.0.0.1:9/train.csv", f"{web}/none/"):
        with pytest.raises(InputError, match="cannot be re") as caught:
            collect(f"http://ann:hunter2@{place}?signature=s3cret", tmp_path / "out", tell=print)
        assert not any(secret in str(caught.value) for secret in ("hunter2", "s3cret"))
    assert not (tmp_path / "out").exists()


def test_a_folder_in_object_storage_is_read(web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    with object_storage(monkeypatch) as bucket:
        for file in (tmp_path / "web").iterdir():
            with fsspec.open(f"{bucket}/data/{file.name}", "wb") as stream:
                stream.write(file.read_bytes())
        frames = collect_frames(f"{bucket}/data", COLUMNS)
        one = collect_frames(f"{bucket}/data/dev.csv.gz", COLUMNS)
        with pytest.raises(InputError, match=r"empty cannot be reached .FileNotFoundError"):
            collect_frames(f"{bucket}/empty", COLUMNS)
    assert {split: frame["text"].tolist() for split, frame in frames.items()} == {
        split: ["text one", "text two"] for split in ("train", "validation", "test")
    }
    assert set(frames["test"]["source"]) == {f"{bucket}/data/test.parquet"}
    assert list(one) == ["train"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "desk.db"
    with sqlite3.connect(file) as connection:
        connection.execute("create table tickets (id integer, body text, topic text, opened timestamp)")
        rows = [(n, f"text {n} is 100% :new", "ab"[n % 2], f"2026-01-01 00:00:{n % 60:02d}") for n in range(25_000)]
        connection.executemany("insert into tickets values (?, ?, ?, ?)", rows)
    connection.close()
    return file


def test_the_rows_of_a_query_are_read(database: Path, tmp_path: Path) -> None:
    query = "SELECT id, body, topic AS label, opened FROM tickets WHERE body LIKE '%100% :new' ORDER BY id"
    summary = collect(f"sql:sqlite:///{database}", tmp_path / "out", {"text": "body"}, query, tell=print)
    frame = load_collected(tmp_path / "out")["train"]
    assert summary.source == f"sql:sqlite:///{database}" and len(frame) == 25_000
    assert frame[["id", "text", "label", "opened"]].iloc[-1].tolist() == [
        "24999", "text 24999 is 100% :new", "b", "2026-01-01 00:00:39",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "query", "sentence"),
    [
        ("sql:sqlite:///{file}", "", "give --query"),
        ("sql:sqlite:///{file}", "SELECT missing FROM tickets", "no such column: missing.: look at the address and"),
        ("sql:sqlite:///{file}", "SELECT body AS text FROM tickets", "has no column 'label' .it has: text."),
        ("sql:sqlite:///{file}", "SELECT body AS text, topic AS text FROM tickets", "several columns 'text'"),
        (
            "sql:sqlite:///{file}",
            "SELECT body AS text, topic AS label FROM tickets WHERE id < 0",
            "has no rows: fill it",
        ),
        ("sql:sqlite:///{file}", "DELETE FROM tickets", "the query gives no rows: write a SELECT"),
        ("sql:sqlite:///{file}.none", "SELECT 1", "does not exist"),
        ("sql:nothing", "SELECT 1", "is no SQLAlchemy URL"),
        ("sql:postgresql+none://ann:hunter2@host/db", "SELECT 1", "sql:postgresql://host/db cannot be read"),
        ("{file}", "SELECT 1", "--query is for the rows of a database"),
    ],
)
def test_a_query_that_cannot_be_read_is_said(database: Path, address: str, query: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        collect_frames(address.format(file=database), query=query)
    assert "hunter2" not in str(caught.value)
    assert [file.name for file in database.parent.iterdir()] == ["desk.db"]
    with sqlite3.connect(database) as connection:
        assert connection.execute("select count(*) from tickets").fetchone() == (25_000,)
    connection.close()


def test_newsgroups_come_from_the_librarys_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.utils import Bunch

    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    posts = Bunch(
        data=["From: ann\nNewsgroups: sci.med\n\nA text.", "From: bob\n\nAnother text."], target=np.array([1, 0]),
        target_names=["rec.autos", "sci.med"], filenames=np.array(["1", "2"]),
    )  # fmt: skip
    packed = zlib.compress(pickle.dumps({"train": posts, "test": posts}))
    (tmp_path / "20news-bydate_py3.pkz").write_bytes(packed)
    frames = collect_frames("named:20newsgroups")
    assert sorted(frames) == ["test", "train"]
    assert dict(zip(frames["test"]["label"], frames["test"]["text"], strict=True)) == {
        "sci.med": "A text.", "rec.autos": "Another text.",
    }  # fmt: skip


def test_a_named_set_without_a_network_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.setattr("socket.getaddrinfo", _nobody)
    for name in ("20newsgroups", "ag_news"):
        with pytest.raises(Unavailable, match=f"named:{name} cannot be fetched .*: try again where a network is"):
            collect_frames(f"named:{name}")
    with pytest.raises(InputError, match="choose named:20newsgroups or named:ag_news"):
        collect_frames("named:other")


def _nobody(*_: object, **__: object) -> None:
    raise OSError("no network")


def test_a_saved_data_set_is_read_in_batches(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"body": Value("string"), "topic": ClassLabel(names=["bad", "good"])})
    rows = {"body": [f"text {n}" for n in range(25_000)], "topic": [n % 2 for n in range(25_000)]}
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    frame = collect_frames(str(tmp_path / "saved"), COLUMNS)["train"]
    assert frame["text"].tolist() == rows["body"]
    assert frame["label"].tolist() == ["bad", "good"] * 12_500


def test_rows_keep_where_and_when_they_were_made(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "label": "x", "source": "feed", "collected_at": "2026-01-01T00:00:00+00:00", "synthetic": True},
        {"text": "b", "label": "y", "late": 1.0},
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    frame = collect_frames(str(tmp_path / "in.jsonl"))["train"]
    assert frame["source"].tolist() == ["feed", str(tmp_path / "in.jsonl")]
    assert frame["collected_at"][0] == "2026-01-01T00:00:00+00:00" < frame["collected_at"][1]
    assert frame["synthetic"].tolist() == [True, False]
    assert frame["late"].tolist() == [None, "1"]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"text": "none"}, "has no column 'none' .it has: body, topic, author.: .* or give --column text=NAME"),
        ({"txt": "body"}, "--column txt=body names no column of ours: choose from id, text, label"),
        ({"text": "body", "label": "body"}, "names 'body' for two columns"),
    ],
)
def test_columns_that_cannot_be_are_refused(tmp_path: Path, columns: dict[str, str], sentence: str) -> None:
    (tmp_path / "in.csv").write_text(ROWS)
    with pytest.raises(InputError, match=sentence):
        collect_frames(str(tmp_path / "in.csv"), columns)


def test_a_column_with_our_name_that_is_not_wanted_is_kept_aside(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("title,text,label\nshort,long,a\n")
    frame = collect_frames(str(tmp_path / "in.csv"), {"text": "title"})["train"]
    assert (frame["text"][0], frame["input_text"][0]) == ("short", "long")
    (tmp_path / "in.csv").write_text("title,text,input_text,label\nshort,long,longer,a\n")
    with pytest.raises(InputError, match="'text' would be kept as 'input_text', which there is already: rename one"):
        collect_frames(str(tmp_path / "in.csv"), {"text": "title"})


def test_a_crawl_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crawl.yaml").write_text("{start: ['https://news.example'], contact: a@b.org}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"crawl.yaml needs scrapy, .*: pip install 'pigeonhole.crawl.'"):
        collect_frames(f"crawl:{tmp_path / 'crawl.yaml'}")


def test_the_documents_list_every_source() -> None:
    page = (ROOT / "docs/data.md").read_text()
    assert [source.form for source in SOURCES if f"| {source.form}" not in page.replace("`", "")] == []


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://ann:p@ss@host/a.csv?sig=x#y", "https://host/a.csv"),
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("sql:postgresql://ann:pw@host:1/db?sslkey=x", "sql:postgresql://host:1/db"),
        ("data/what?.csv", "data/what?.csv"),
    ],
)
def test_a_safe_address_has_no_secret(address: str, shown: str) -> None:
    assert safe(address) == shown
    assert masked(f"no '{address}' here: pw, sig=x", address).startswith(f"no '{shown}' here")
