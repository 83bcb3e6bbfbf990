"""Delimited files in any dialect and encoding: what was written is read, and what is broken is counted, not shifted."""

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.collect import Collected, collect, load_collected
from components.data.sources.formats.text import Text
from components.data.sources.table import BYTES, FIELDS, KIND, LENGTH, NULS, OBJECTS, QUOTES
from predictor.errors import InputError

Rows = list[tuple[str, str]]
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
LATIN = "abc ,;\t|\"'\n\r\\éüß“”–€ñ"


def collected(folder: Path) -> tuple[Collected, pd.DataFrame]:
    summary = collect(str(folder), folder / "out", tell=lambda _: None)
    return summary, load_collected(folder / "out")["train"]


def _written(rows: Rows, encoding: str, **style: Any) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, **style).writerows([("text", "label"), *rows])
    return stream.getvalue().encode(encoding)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), st.sampled_from(["a", "b, c"])
        ),
        min_size=1,
    ),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(ENCODINGS),
    suffix=st.sampled_from(["csv", "tsv.gz"]),
)
def test_any_dialect_is_read_back(
    rows: Rows, delimiter: str, quoting: int, end: str, encoding: str, suffix: str
) -> None:
    if (quoting, end) == (csv.QUOTE_MINIMAL, "\n"):
        rows = [(text.replace("\r", " "), label) for text, label in rows]  # the csv module does not quote it then
    content = _written(rows, encoding, delimiter=delimiter, quoting=quoting, lineterminator=end)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"train.{suffix}"
        file.write_bytes(gzip.compress(content, 1) if suffix.endswith("gz") else content)
        summary, frame = collected(Path(folder))
    assert list(zip(frame["text"], frame["label"], strict=True)) == rows
    assert not summary.rejected
    assert summary.found["train"]["delimiter"] == delimiter


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.tuples(st.text(LATIN, min_size=1), st.just("a")), min_size=1),
    style=st.sampled_from([
        {"quotechar": "'", "quoting": csv.QUOTE_ALL},
        {"doublequote": False, "escapechar": "\\", "quoting": csv.QUOTE_ALL},
    ]),
)  # fmt: skip
def test_single_quotes_and_backslashes_are_found(rows: Rows, style: dict[str, Any]) -> None:
    # A file shows that backslashes escape only where one does
    rows = [*rows, ('he said "no", and left', "b")]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.csv").write_bytes(_written(rows, "utf-8", lineterminator="\n", **style))
        _, frame = collected(Path(folder))
    assert list(zip(frame["text"], frame["label"], strict=True)) == rows


def test_tabs_without_quotes_are_found(tmp_path: Path) -> None:
    rows = [f'"The Wall" number {number}\ta' for number in range(50)] + ['5" disk\tb']
    (tmp_path / "train.tsv").write_text("\n".join(["text\tlabel", *rows]))
    summary, frame = collected(tmp_path)
    assert [f"{row.text}\t{row.label}" for row in frame.itertuples()] == rows
    assert summary.found["train"]["quote"] == ""


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "L’été à la plage – c’était génial, “oui”"),
        ("cp1251", "Москва победила в матче, это новости"),
        ("gb18030", "体育新闻：球队夺冠"),
        ("shift_jis", "東京のニュースです"),
        ("euc_kr", "한국어 뉴스 텍스트입니다"),
    ],
)
def test_other_encodings_are_found_and_said(tmp_path: Path, encoding: str, text: str) -> None:
    lines = ["text,label", *(f'"plain {number}",a' for number in range(40_000)), *[f'"{text}",b'] * 50]
    (tmp_path / "train.csv").write_bytes("\n".join(lines).encode(encoding))
    told: list[str] = []
    summary = collect(str(tmp_path), tmp_path / "out", tell=told.append)
    assert load_collected(tmp_path / "out")["train"]["text"].tolist()[-1] == text
    assert summary.found["train"]["encoding"] == encoding
    assert f"{tmp_path / 'train.csv'}: read as {encoding.upper()}" in told


GOOD = [f'"text, number {number}",a' for number in range(600)]


def _with(broken: list[bytes], encoding: str = "utf-8") -> bytes:
    lines = [line.encode(encoding) for line in ("text,label", *GOOD[:300])]
    return b"\n".join([*lines, *broken, *(line.encode(encoding) for line in GOOD[300:])]) + b"\n"


@pytest.mark.parametrize(
    ("broken", "reason", "count"),
    [
        ([b"a,field,too many"], FIELDS, 1),
        ([b"too few"], FIELDS, 1),
        ([b'"a "broken" quote",a'], QUOTES, 1),
        ([b'"never closed,a'], QUOTES, 1),
        ([b'"he said "no', b"way out, sure", b'then",a'], QUOTES, 3),
        (["été,a".encode(), b"\xe9t\xe9,a"], BYTES, 1),
        ([b"a\0b,a"], NULS, 1),
        ([b"x" * 10_000_000 + b",a"], LENGTH, 1),
        ([b'"' + b"x, \n" * 2_500_000 + b'",a'], LENGTH, 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_row_broken_by_itself_is_counted_and_shifts_nothing(
    tmp_path: Path, broken: list[bytes], reason: str, count: int
) -> None:
    (tmp_path / "train.csv").write_bytes(_with(broken))
    told: list[str] = []
    summary = collect(str(tmp_path), tmp_path / "out", tell=told.append)
    frame = load_collected(tmp_path / "out")["train"]
    assert summary.rejected == {f"train: {reason}": count}
    assert [f'"{text}",a' for text in frame["text"] if text != "été"] == GOOD
    assert set(frame["label"]) == {"a"}
    assert any(f"{count} train rows left out: {reason} (line 30" in line for line in told)


def test_utf_8_in_a_file_of_another_encoding_is_counted(tmp_path: Path) -> None:
    latin = [f"caf\u00e9 {number},a".encode("cp1252") for number in range(300)]
    (tmp_path / "train.csv").write_bytes(_with([*latin, "caf\u00e9,b".encode()]))
    summary, frame = collected(tmp_path)
    assert summary.rejected == {f"train: {BYTES}": 1}
    assert "café 7" in set(frame["text"]) and len(frame) == 900


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from(['"never closed,a', '"a "b" c",a', "a,b,c", "one", 'x "y,b', '"w""x",b']),
        min_size=1,
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_read_and_rejected_are_what_was_written(broken: list[str], random: Any) -> None:
    lines = list(GOOD) * 2
    for line in broken:
        lines.insert(random.randrange(len(lines) - 5), line)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.csv").write_text("\n".join(["text,label", *lines]))
        summary, frame = collected(Path(folder))
    assert len(frame) + sum(summary.rejected.values()) == len(lines)
    known = {f'"{text}",a' for text in frame["text"]} | {"x", '"', 'x "y', 'w"x'}
    assert set(frame["label"]) <= {"a", "b"}
    assert all(f'"{text}",a' in GOOD or text in known for text in frame["text"])
    assert summary.rejected.get(f"train: {FIELDS}", 0) <= len(broken)


def test_values_of_other_formats_are_counted(tmp_path: Path) -> None:
    rows: list[Any] = [{"text": f"text {number}", "label": number % 2, "tags": ["x"]} for number in range(600)]
    rows[50]["label"], rows[60]["text"] = ["a", "b"], {"title": "x"}
    rows[70], rows[80]["text"], rows[90]["synthetic"] = ["no object"], "a\0b", True
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    summary, frame = collected(tmp_path)
    assert summary.rejected == {f"train: {KIND}": 2, f"train: {OBJECTS}": 1, f"train: {NULS}": 1}
    assert len(frame) == 596 and set(frame["label"]) == {"0", "1"} and set(frame["tags"]) == {'["x"]'}
    assert frame["synthetic"].sum() == 1


def test_a_header_may_come_after_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("\n  \ntext;label\na;b\nc;d;e\n" + "a;b\n" * 200)
    told: list[str] = []
    collect(str(tmp_path), tmp_path / "out", tell=told.append)
    assert len(load_collected(tmp_path / "out")["train"]) == 201
    assert any("line 5 has 3 and not 2" in line for line in told)


@pytest.mark.parametrize("again", ["text,label", "\ufefftext,label", '\ufeff"text","label"'])
def test_the_header_of_a_joined_file_is_no_row(tmp_path: Path, again: str) -> None:
    (tmp_path / "train.csv").write_text(f"text,label\nx,y\n\ufeffx,y\n{again}\nx,y\n")
    with pytest.raises(InputError, match="has its header again in line 4"):
        collected(tmp_path)


class _Slow(io.BytesIO):
    """Gives what has arrived, as a connection does."""

    def __init__(self, content: bytes, piece: int) -> None:
        super().__init__(content)
        self._piece = piece

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._piece if size is None or size < 0 else min(size, self._piece))


@settings(max_examples=50, deadline=None)
@given(words=st.text("aé中\n", min_size=1), piece=st.integers(1, 9), encoding=st.sampled_from(["utf-8", "utf-16"]))
def test_a_slow_stream_is_the_same_text(words: str, piece: int, encoding: str) -> None:
    text = Text(_Slow(words.encode(encoding), piece), "slow")
    assert "".join(text.lines("")) == words and not text.damaged
    assert text.encoding in (encoding, f"{encoding}-le")


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(_with([]))
    (tmp_path / "train.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"train\.csv\.gz cannot be read .*end-of-stream"):
        collected(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["train.csv.gz"]


def test_a_quote_that_swallows_the_rest_is_refused(tmp_path: Path) -> None:
    lines = [f"text number {number},a" for number in range(1000)]
    lines[500] = '"' + lines[500]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines]))
    with pytest.raises(InputError, match=r"line 502 cannot be read .a quote is opened and never closed."):
        collected(tmp_path)


def test_most_rows_broken_are_refused_before_the_end(tmp_path: Path) -> None:
    lines = ["a,b,c", "a,b"] * 20_000 + ["a,b,c"] * 60_000
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines]))
    with pytest.raises(InputError, match=r"broken rows of .*another number of fields .*line 2 has 3 and not 2"):
        collected(tmp_path)
