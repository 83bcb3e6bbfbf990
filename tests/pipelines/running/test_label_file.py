"""Files through `predict`: what comes out is what went in, beside its labels, whatever the texts hold."""

import csv
import json
import tempfile
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.data.sources.tables import read_table
from pipelines.running.label_file import OUTPUT_SUFFIXES, predict_file
from predictor.client import Server
from predictor.client.client import BATCH_TEXTS
from predictor.errors import InputError
from tests.fakes.predictor import Fake, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(Fake()) as url:
        yield Server.at("v2", url, "toy")


words = st.text(min_size=1).filter(lambda text: text.strip())


@settings(max_examples=10)
@example(texts=["one\rtwo", '"', "a,b\r\n"], more="\r")
@given(texts=st.lists(words, min_size=1, max_size=6), more=st.text())
def test_what_is_written_reads_again_as_the_same_rows(server: Server, texts: list[str], more: str) -> None:
    rows = [{"id": f"{number:03d}", "text": text, "note": more or None} for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.jsonl")
        source.write_text("\n".join(map(json.dumps, rows)))
        for number, suffix in enumerate((*OUTPUT_SUFFIXES, ".csv")):
            target = Path(folder, f"{number}{suffix}")
            predict_file(server, source, target)
            found = read_table(target)
            assert list(found) == ["id", "text", "note", "predicted_label", "confidence"]
            assert found[["id", "text", "note"]].to_dict("records") == rows
            assert found["predicted_label"].tolist() == [text.upper() for text in texts]
            source = target  # its own output is input again


def test_every_reader_of_csv_finds_the_rows(server: Server, tmp_path: Path) -> None:
    texts = ["one\rtwo", "a, b", 'say "no"', "three\r\nfour"]
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    predict_file(server, tmp_path / "in.jsonl", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as stream:
        assert [row["text"] for row in csv.DictReader(stream, strict=True)] == texts
    assert pd.read_csv(tmp_path / "out.csv")["text"].tolist() == texts


def test_lines_of_a_windows_text_file_end_where_they_do(server: Server, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"\xef\xbb\xbfone, two\r\n\r\nthree\r\n")
    predict_file(server, tmp_path / "in.txt", tmp_path / "out.jsonl")
    assert read_table(tmp_path / "out.jsonl")["text"].tolist() == ["one, two", "three"]


def test_cells_are_never_written_as_python_shows_them(server: Server, tmp_path: Path) -> None:
    cells = {
        "text": pa.array([b"gr\xc3\xbcn", b"b"]),
        "tags": [["x", "y"], None],
        "more": [{"a": 1}, None],
        "raw": [b"\xc3\xbc", None],
        "stars": [5, None],
        "day": [date(2026, 1, 2), None],
        "price": [Decimal("1.10"), None],
        "kind": pa.array(["p", "q"]).dictionary_encode(),
    }
    pq.write_table(pa.table(cells), tmp_path / "in.parquet")
    for suffix in OUTPUT_SUFFIXES:
        predict_file(server, tmp_path / "in.parquet", tmp_path / f"out{suffix}")
    said = {"predicted_label": "GRÜN", "confidence": 0.5}
    plain = {"text": "grün", "raw": "ü", "day": "2026-01-02", "price": "1.10", "kind": "p"}
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {**plain, "tags": ["x", "y"], "more": {"a": 1}, "stars": 5, **said}
    with (tmp_path / "out.csv").open(newline="") as stream:
        first, second = csv.DictReader(stream)
    assert first == {**plain, "tags": '["x", "y"]', "more": '{"a": 1}', "stars": "5",
                     "predicted_label": "GRÜN", "confidence": "0.5"}  # fmt: skip
    assert second["tags"] == second["stars"] == second["day"] == ""
    assert pq.read_table(tmp_path / "out.parquet")["stars"].to_pylist() == [5, None]


def test_bytes_that_are_no_text_are_refused(server: Server, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [b"a", b"\xff"]}), tmp_path / "in.parquet")
    with pytest.raises(InputError, match=r"in\.parquet, row 2 has bytes in 'text' that are not UTF-8"):
        predict_file(server, tmp_path / "in.parquet", tmp_path / "out.csv")


NOWHERE = Server("v2", "http://127.0.0.1:9", "toy")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.csv", None, "cannot be read"),
        ("in.xlsx", "x", "is of no known kind"),
        ("in.csv", "body\nx\n", "has no column 'text' (it has: body)"),
        (
            "in.csv",
            "text\nThe match ended, at last\n",
            "another number of fields than the header (line 2 has 2",
        ),
        (
            "in.csv",
            b"text\n\xc3\xa7\n\xe7\n",
            "in.csv has broken rows: bytes of another encoding (line 3",
        ),
        ("in.csv", "text,confidence\nx,0.5\n", "in.csv has a column 'confidence', which the predictions would"),
        ("in.csv", "predicted_label,confidence,text\na,0.5,x\n", "in.csv has a column 'predicted_label', which"),
        ("in.jsonl", '{"text": "x"}\n{"text": [5]}\n', "in.jsonl, row 2 has a value of type list in 'text'"),
        ("in.jsonl", '{"text": "x"}\n{', "in.jsonl has broken rows: no JSON object (line 2 is no JSON"),
        ("in.jsonl", '["x"]', "in.jsonl has broken rows: no JSON object (line 1 is a list)"),
        ("in.txt", b"\xc3\xa7\n\xff\n", "in.txt, line 2 is not UTF-8"),
        ("in.txt", "\n \n", "has no"),
    ],
)
def test_a_bad_file_is_refused_before_the_first_request(
    tmp_path: Path, name: str, content: str | bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        predict_file(NOWHERE, tmp_path / name, tmp_path / "out.csv")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["out.xlsx", "none/out.csv"])
def test_a_bad_output_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="--output"):
        predict_file(NOWHERE, tmp_path / "none.csv", tmp_path / name)


def test_a_failure_in_the_midst_leaves_no_file(tmp_path: Path) -> None:
    made = Fake()
    made.answers = [(200, {}, None), (400, {}, "no")]
    (tmp_path / "in.txt").write_text("text\n" * 10 * BATCH_TEXTS)
    with serving(made) as url, pytest.raises(InputError):
        predict_file(Server.at("v2", url, "toy"), tmp_path / "in.txt", tmp_path / "out.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["in.txt"]


def test_cells_of_any_kind_outlive_the_way(server: Server, tmp_path: Path) -> None:
    given: list[dict[str, Any]] = [
        {"text": "a\u2028b", "stars": 5, "note": None, "more": [1, "x"]},
        {"text": "ü", "stars": 4.5},
    ]
    (tmp_path / "in.jsonl").write_text(
        "\ufeff" + "\r\n".join(json.dumps(row, ensure_ascii=False) for row in given), encoding="utf-8"
    )
    predict_file(server, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    said = [{"predicted_label": row["text"].upper(), "confidence": 0.5} for row in given]
    missing: list[dict[str, Any]] = [{}, {"note": None, "more": None}]
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n") if line]
    assert found == [a | b | c for a, b, c in zip(given, missing, said, strict=True)]
    with pytest.raises(InputError, match=r"--output .*out.parquet cannot be written .*another place or kind"):
        predict_file(server, tmp_path / "in.jsonl", tmp_path / "out.parquet")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
