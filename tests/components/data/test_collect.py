"""What collect leaves: a folder that is whole or not there, written in chunks, with the labels settled."""

import json
import tracemalloc
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.data import collect as module
from components.data.collect import collect, collect_frames, load_collected
from components.data.sources.split_file import SplitFile
from predictor.errors import InputError


def _quiet(_: str) -> None: ...


def test_memory_is_that_of_a_chunk_and_not_of_the_rows(tmp_path: Path) -> None:
    text = "word " * 4_000
    with (tmp_path / "train.csv").open("w") as stream:
        stream.write("\ntext,label\n")
        stream.writelines(f"{number} {text},{number % 2}.0\n" for number in range(4_000))
    size = (tmp_path / "train.csv").stat().st_size
    tracemalloc.start()
    collect(str(tmp_path / "train.csv"), tmp_path / "out", tell=_quiet)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size * 0.8  # 80 MB; a chunk has 16 million characters, twice in memory
    labels = pq.read_table(tmp_path / "out" / "train.parquet", columns=["label"])["label"].to_pylist()
    assert labels == ["0", "1"] * 2_000


def test_columns_that_come_late_are_in_all_rows(tmp_path: Path) -> None:
    rows = [{"text": f"text {number}", "label": 1.0} for number in range(25_000)]
    rows[15_000]["topic"], rows[20_001]["tags"] = "late", "later"
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    collect(str(tmp_path / "in.jsonl"), tmp_path / "out", tell=_quiet)
    frame = load_collected(tmp_path / "out")["train"]
    assert frame["text"].tolist() == [row["text"] for row in rows] and set(frame["label"]) == {"1"}
    assert frame["topic"].dropna().to_dict() == {15_000: "late"} and frame["tags"].dropna().to_dict() == {
        20_001: "later"
    }
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["collected.json", "train.parquet"]
    groups = pq.ParquetFile(tmp_path / "out" / "train.parquet").metadata
    assert [groups.row_group(group).num_rows for group in range(groups.num_row_groups)] == [10_000, 10_000, 5_000]


def test_what_was_collected_is_written_beside_the_rows(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes("text;label\nx;a\ny;b\n".encode("utf-16"))
    (tmp_path / "test.jsonl").write_text('{"text": "z", "label": "a"}')
    summary = collect(str(tmp_path), tmp_path / "out", tell=_quiet)
    assert json.loads((tmp_path / "out" / "collected.json").read_text()) == {
        "source": str(tmp_path),
        "rows": {"train": 2, "test": 1},
        "rejected": {},
        "found": {
            "train": {"delimiter": ";", "quote": '"', "escape": "", "encoding": "utf-16-le"},
            "test": {"encoding": "utf-8"},
        },
    }
    assert summary.rows == {"train": 2, "test": 1}


def test_a_failure_leaves_what_was_there_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.csv").write_text("text,label\nx,a\n")
    collect(str(tmp_path / "in.csv"), tmp_path / "out", tell=_quiet)
    (tmp_path / "in.csv").write_text("text,label\ny,a\n")

    def full(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(SplitFile, "finish", full)
    with pytest.raises(OSError, match="no space"):
        collect(str(tmp_path / "in.csv"), tmp_path / "out", tell=_quiet)
    assert load_collected(tmp_path / "out")["train"]["text"].tolist() == ["x"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.csv", "out"]


def test_a_column_of_texts_is_not_taken_for_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_LABELS", 100)
    (tmp_path / "in.csv").write_text("text,label\n" + "".join(f"x,{number}\n" for number in range(101)))
    with pytest.raises(InputError, match="has over 100 different labels: name the column that holds the class"):
        collect_frames(str(tmp_path / "in.csv"))
