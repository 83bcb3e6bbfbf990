"""Files as programs and people write them: the same rows out of every format, or one sentence that says where."""

import csv
import gzip
import json
import tempfile
from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.csv import write_csv

from components.data.cells import as_text
from components.data.collect import collect_frames
from components.data.sources.tables import read_table
from predictor.errors import InputError

Cells = list[tuple[str, str]]
# A row with a NUL is broken
TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)


def _frame(rows: Cells) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["text", "label"], dtype=object)


def _csv(rows: Cells, file: Path, encoding: str = "utf-8", **style: str) -> None:
    with file.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, **style).writerows([("text", "label"), *rows])  # type: ignore[arg-type]


def _json(rows: Cells, file: Path, end: str) -> None:
    lines = (json.dumps({"label": label, "text": text}, ensure_ascii=False) for text, label in rows)
    file.write_bytes(end.join(lines).encode())


def _arrow(rows: Cells, of: pa.DataType) -> pa.Table:
    return pa.table({name: _frame(rows)[name].tolist() for name in ("text", "label")}).cast(
        pa.schema([("text", of), ("label", of)])
    )


def _gzipped(rows: Cells, file: Path) -> None:
    _csv(rows, file)
    file.write_bytes(gzip.compress(file.read_bytes()))


WRITERS: dict[str, tuple[str, Callable[[Cells, Path], object]]] = {
    "csv": ("csv", _csv),
    "csv, every cell quoted": ("csv", lambda rows, file: _frame(rows).to_csv(file, index=False, quoting=csv.QUOTE_ALL)),
    "csv, a mark before the header": ("csv", lambda rows, file: _csv(rows, file, encoding="utf-8-sig")),
    "csv, semicolons": ("csv", lambda rows, file: _csv(rows, file, delimiter=";")),
    "csv, tabs": ("csv", lambda rows, file: _csv(rows, file, delimiter="\t")),
    "csv, gzip": ("csv.gz", _gzipped),
    "csv, arrow": ("csv", lambda rows, file: write_csv(_arrow(rows, pa.string()), str(file))),
    "json lines": ("jsonl", lambda rows, file: _json(rows, file, "\n")),
    "json lines, windows": ("jsonl", lambda rows, file: _json(rows, file, "\r\n")),
    "json lines, pandas": ("jsonl", lambda rows, file: _frame(rows).to_json(file, orient="records", lines=True)),
    "parquet": ("parquet", lambda rows, file: _frame(rows).to_parquet(file, index=False)),
    "parquet, bytes": ("parquet", lambda rows, file: pq.write_table(_arrow(rows, pa.binary()), file)),
    "parquet, an index": ("parquet", lambda rows, file: _frame(rows).set_index("text").to_parquet(file)),
    "parquet, dictionary": (
        "parquet",
        lambda rows, file: pq.write_table(_arrow(rows, pa.dictionary(pa.int32(), pa.string())), file),
    ),
}


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1),
            st.sampled_from(["a", "ü; b", "007", "x,\ty", '"']),
        ),
        min_size=1,
    )
)
def test_every_writer_of_every_format_gives_the_same_rows(rows: Cells) -> None:
    for name, (suffix, write) in WRITERS.items():
        with tempfile.TemporaryDirectory() as folder:
            write(rows, Path(folder) / f"train.{suffix}")
            found = collect_frames(folder)["train"]
        assert list(zip(found["text"], found["label"], strict=True)) == rows, name


@settings(max_examples=20)
@given(st.lists(st.integers(-5, 2**60) | st.none(), min_size=1))
def test_numbers_with_and_without_a_gap_are_the_same_labels(labels: list[int | None]) -> None:
    rows = pd.DataFrame({"text": [f"text {n}" for n in range(len(labels))], "label": pd.array(labels, dtype="Int64")})
    small = all(label is None or abs(label) < 2**50 for label in labels)
    expected = [None if label is None else str(label) for label in labels]
    for kind in ("Int64", "float64") if small else ("Int64",):
        frame = rows.astype({"label": kind})
        with tempfile.TemporaryDirectory() as folder:
            frame.to_csv(f"{folder}/train.csv", index=False)
            frame.to_parquet(f"{folder}/test.parquet", index=False)
            objects = [{"text": text, "label": label} for text, label in zip(frame["text"], labels, strict=True)]
            Path(folder, "dev.jsonl").write_text("\n".join(map(json.dumps, objects)))
            found = collect_frames(folder)
        assert [frame["label"].tolist() for frame in found.values()] == [expected] * 3


def _texts(values: Iterable[object], file: Path, of: pa.DataType | None = None) -> Path:
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(3)], "label": pa.array(values, of)}), file)
    return file


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, None], ["1", "2", "1"], (["1", "2", None], ["1", "2", "1"])),
        ([1.0, 2.0, float("nan")], ["1", "2.0", "1.00"], (["1", "2", None], ["1", "2", "1"])),
        ([0.5, 1.0, 1.5], ["0.5", "1.0", "1"], (["0.5", "1", "1.5"], ["0.5", "1", "1"])),
        ([1, 2, 7], ["007", "1.0", "2"], (["1", "2", "7"], ["007", "1.0", "2"])),
        ([True, False, None], ["True", "FALSE", "true"], (["true", "false", None], ["true", "false", "true"])),
        (["True", "False", "True"], ["True", "True", "False"], (["True", "False", "True"], ["True", "True", "False"])),
        ([1, 2, 3], ["spam", "v1.0", "1"], (["1", "2", "3"], ["spam", "v1.0", "1"])),
        ([b"garden", b"b\xc3\xbccher", None], ["garden", "bücher", " "],
         (["garden", "bücher", None], ["garden", "bücher", None])),
    ],
)  # fmt: skip
def test_a_class_has_one_name_in_all_files(
    tmp_path: Path, first: list[object], second: list[object], expected: tuple[list[str | None], ...]
) -> None:
    _texts(first, tmp_path / "train.parquet")
    _texts(second, tmp_path / "test.parquet")
    found = collect_frames(str(tmp_path))
    assert (found["train"]["label"].tolist(), found["test"]["label"].tolist()) == expected


def test_decimals_are_numbers_whatever_their_size(tmp_path: Path) -> None:
    _texts([1, 2, None], tmp_path / "train.parquet", pa.decimal128(5, 2))
    _texts([10**35, Decimal("2.50"), -1], tmp_path / "test.parquet", pa.decimal128(38, 2))
    found = collect_frames(str(tmp_path))
    assert found["train"]["label"].tolist() == ["1", "2", None]
    assert found["test"]["label"].tolist() == ["1" + "0" * 35, "2.50", "-1"]
    assert [as_text(Decimal(value)) for value in ("Infinity", "NaN", "1E+3")] == ["Infinity", None, "1000"]


@pytest.mark.parametrize("column", ["label", "topic"])
def test_a_parquet_file_without_rows_is_said_to_have_none(tmp_path: Path, column: str) -> None:
    pq.write_table(
        pa.table({"text": pa.array([], pa.string()), column: pa.array([], pa.string())}), tmp_path / "in.parquet"
    )
    sentence = "has no rows: fill it" if column == "label" else "has no column 'label' .it has: text, topic."
    with pytest.raises(InputError, match=f"in.parquet {sentence}"):
        collect_frames(str(tmp_path / "in.parquet"))
    assert list(read_table(tmp_path / "in.parquet").columns) == ["text", column]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([["a"], ["b"], ["a", "b"]], "row 1 has a value of type ndarray in 'label'.*; give text or a number"),
        ([None, {"a": 1}, {"a": 2}], "row 2 has a value of type dict in 'label'"),
        ([None, None, date(2026, 1, 1)], "row 3 has a value of type date in 'label'"),
        ([b"a", b"\xff", b"b"], "row 2 has bytes in 'label' that are not UTF-8"),
    ],
)
def test_what_is_no_label_is_never_made_one(tmp_path: Path, labels: list[object], sentence: str) -> None:
    _texts(labels, tmp_path / "train.parquet")
    with pytest.raises(InputError, match=f"train.parquet has . broken rows of 3, more than 1%: .*{sentence}"):
        collect_frames(str(tmp_path))


def _named_by_sentence(value: str | bytes) -> str:
    return "" if isinstance(value, bytes) or "\n" in value else value[:50]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "text,label\na, b,x\nc, d,y\n",
            "2 broken rows of 2, .*header .line 2 has 3 and not 2, line 3 has 3 and not 2.; put texts that hold a sep",
        ),
        ('text,label\na,x\n"b\n\nc",y\nd\n', "header .line 6 has 1 and not 2.; put"),
        ("text,label\n" + "a,b,c\n" * 1005, "line 3 has 3 and not 2, line 4 has 3 and not 2 and 1,002 more rows.; put"),
        ("text;label\na;b;c\n", "line 2 has 3 and not 2.; put texts that hold a separator in double quotes"),
        (
            'text,label\n"a "b" c",x\n',
            "quotes that do not match .line 2.; put texts with quotes or line ends in",
        ),
        ('text,label\nx,y\n"open,a\nb,c\n', "line 3 cannot be read .a quote is opened and never closed.: put texts"),
        ("text,label\nx,y\ntext,label\nx,y\n", "has its header again in line 3: if files were joined"),
        ("text,text,label\na,b,c\n", "several columns 'text': keep one or rename the others"),
        ("text,label\n", "train.csv has no rows: fill it"),
        ("", "cannot be read .it is empty."),
        ("\n\n", "cannot be read .it is empty."),
        ("text,label\nfaçade,a\n".encode() + "façade,a\n".encode("latin-1"), "line 3 is not UTF-8.; save it in one"),
        ("text,label\nx,y\n".encode("utf-16")[:-1], "ends inside a character: get the whole file"),
    ],
    ids=_named_by_sentence,
)
def test_a_bad_csv_is_refused_with_the_line(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    (tmp_path / "train.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=sentence) as caught:
        collect_frames(str(tmp_path))
    assert "train.csv" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"text": "a", "label": 1}\n\n{"text": \n', "1 broken rows of 2, .*line 3 is no JSON: Expecting value"),
        ('{"text": "a", "label": 1}\n["b", 2]\n', "1 broken rows of 2, .*no JSON object .line 2 is a list.; give one"),
        (b'{"text": "\xc3\xa7", "label": 1}\n{"text": "\xe7"}\n', "1 broken rows of 2, .*line 2 is not UTF-8"),
        ("", "no rows: fill it"),
        ("\n".join(f'{{"text": "a", "label": "b", "{n}": 1}}' for n in range(1_001)), "over 1,000 columns: give each"),
    ],
    ids=_named_by_sentence,
)
def test_bad_json_lines_are_refused_with_the_line(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    (tmp_path / "train.jsonl").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=f"train.jsonl has {sentence}"):
        collect_frames(str(tmp_path))


def test_gzip_that_ends_early_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"text,label\n" + bytes(range(32, 34)) * 5000)
    (tmp_path / "train.csv.gz").write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"train\.csv\.gz cannot be read"):
        collect_frames(str(tmp_path))


def test_rows_of_a_csv_may_be_spaced_out_and_long(tmp_path: Path) -> None:
    book = "word " * 100_000
    (tmp_path / "in.csv").write_text(f",text,label\r0,{book},a\r\r1,b,c\r   \r", newline="")
    frame = read_table(tmp_path / "in.csv")
    assert frame.to_dict("list") == {"Unnamed: 0": ["0", "1"], "text": [book, "b"], "label": ["a", "c"]}


def test_a_separator_that_is_no_comma_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "in.csv").write_text("id;text\n1;a, b\n")
    assert read_table(tmp_path / "in.csv", told.append)["text"].tolist() == ["a, b"]
    assert told == [f"{tmp_path / 'in.csv'}: columns separated by semicolons"]


def test_half_a_character_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(r'{"text": "cut \ud83d", "label": "\ud83d\ude00"}')
    frame = collect_frames(str(tmp_path))["train"]
    assert (frame["text"].tolist(), frame["label"].tolist()) == (["cut "], ["😀"])
