"""Files of all kinds in parts: no row is lost, none is there twice."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.scoring.steps import shards_of
from predictor.errors import InputError
from tests.components.scoring.conftest import planned
from tests.conftest import toy_frame


def parts_of(folder: Path) -> list[pa.Table]:
    return [pq.read_table(file) for file in sorted((folder / "input").glob("*.parquet"))]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "parquet"])
def test_rows_of_each_kind_keep_their_order(kind: str, bundle: Path, tmp_path: Path) -> None:
    frame = toy_frame(30, 3)
    file = tmp_path / f"new.{kind}"
    if kind == "parquet":
        frame.to_parquet(file, index=False)
    elif kind == "jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_csv(file, index=False)
    _, plan = planned(tmp_path / "out", file, bundle, part_rows=40)
    parts = parts_of(tmp_path / "out")
    assert [part.rows for part in plan.parts] == [len(part) for part in parts] == [40, 40, 10] and plan.rows == 90
    whole = pa.concat_tables(parts)
    assert whole["text"].to_pylist() == frame["text"].tolist()
    assert whole["label"].to_pylist() == frame["label"].tolist()


def test_broken_lines_are_rows_that_say_so(bundle: Path, tmp_path: Path) -> None:
    lines = [f"{number},goal {number}" for number in range(300)]
    lines[100], lines[200] = "100,goal,100", "alone"
    (tmp_path / "new.csv").write_text("\n".join(["id,text", *lines]))
    planned(tmp_path / "out", tmp_path / "new.csv", bundle, part_rows=150)
    whole = pa.concat_tables(parts_of(tmp_path / "out"))
    assert len(whole) == 300
    reasons = {row: said for row, said in enumerate(whole["_unreadable"].to_pylist()) if said}
    assert list(reasons) == [100, 200] and "line 102 has 3 and not 2" in reasons[100]
    assert whole["id"].to_pylist()[99:102] == ["99", None, "101"]


def test_json_lines_may_differ_in_names_and_hold_what_is_no_text(bundle: Path, tmp_path: Path) -> None:
    objects: list[object] = [{"text": "goal"}] * 200
    objects[1:4] = [{"text": ["a", "b"]}, {"id": 7}, {"text": 12, "more": {"a": 1}}]
    lines = [json.dumps(each) for each in objects]
    lines[5] = "{cut"
    with gzip.open(tmp_path / "new.jsonl.gz", "wt") as stream:
        stream.write("\n".join(lines))
    planned(tmp_path / "out", tmp_path / "new.jsonl.gz", bundle)
    (whole,) = parts_of(tmp_path / "out")
    rows = whole.to_pylist()[:6]
    assert whole.schema.names == ["text", "id", "more", "_unreadable"] and len(whole) == 200
    assert (rows[1]["text"], rows[1]["_unreadable"]) == ('["a", "b"]', "a value that is no text or number")
    assert (rows[2]["text"], rows[2]["id"]) == (None, "7")
    assert (rows[3]["text"], rows[3]["more"]) == ("12", '{"a": 1}')
    assert "line 6 is no JSON" in rows[5]["_unreadable"]


def test_a_file_of_mostly_broken_lines_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("id,text\n" + "1,a,b\n" * 50 + "1,a\n" * 50)
    with pytest.raises(InputError, match="50 broken rows of 100"):
        planned(tmp_path / "out", tmp_path / "new.csv", bundle)
    assert not (tmp_path / "out/plan.json").exists()


def test_a_folder_of_files_is_one_batch(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(3):
        pd.DataFrame({"text": [f"goal {number} {row}" for row in range(5)]}).to_parquet(folder / f"{number}.parquet")
    _, plan = planned(tmp_path / "out", folder, bundle, part_rows=6)
    assert [part.rows for part in plan.parts] == [6, 6, 3]
    texts = pa.concat_tables(parts_of(tmp_path / "out"))["text"].to_pylist()
    assert texts == [f"goal {number} {row}" for number in range(3) for row in range(5)]
    pd.DataFrame({"text": ["goal"], "id": [1]}).to_parquet(folder / "3.parquet")
    with pytest.raises(InputError, match="other columns"):
        planned(tmp_path / "other", folder, bundle)


@pytest.mark.parametrize("rows", [25, 40, 500])
def test_canaries_are_spread_evenly_and_all_used(rows: int, labelled: Path, bundle: Path, tmp_path: Path) -> None:
    toy_frame(rows // 3 + 1, 5)[["text"]][:rows].to_parquet(tmp_path / "new.parquet", index=False)
    _, plan = planned(tmp_path / "out", tmp_path / "new.parquet", bundle, canaries=str(labelled), part_rows=rows // 5)
    parts = parts_of(tmp_path / "out")
    assert [part.rows for part in plan.parts] == [rows // 5] * 5
    whole = pa.concat_tables(parts).to_pylist()
    assert [row["text"] for row in whole if row["_canary"]] == pd.read_csv(labelled)["text"].tolist()
    assert [row["text"] for row in whole if not row["_canary"]] == toy_frame(rows // 3 + 1, 5)["text"].tolist()[:rows]
    assert {len(part) - part["_canary"].null_count for part in parts} == {8}


@pytest.mark.parametrize(
    ("content", "said"),
    [("text\ngoal\n", "no column 'label'"), ("text,label\ngoal,Weather\n", "Weather"), ("text,label\n,\n", "no row")],
)
def test_canaries_that_cannot_be_used_are_refused(
    content: str, said: str, rows: Path, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "canaries.csv").write_text(content)
    with pytest.raises(InputError, match=said):
        planned(tmp_path / "out", rows, bundle, canaries=str(tmp_path / "canaries.csv"))


def test_a_folder_with_another_batch_is_refused(rows: Path, bundle: Path, cascade_bundle: Path, tmp_path: Path) -> None:
    _, plan = planned(tmp_path / "out", rows, bundle)
    moved = tmp_path / "moved.parquet"
    moved.write_bytes(rows.read_bytes())
    assert planned(tmp_path / "out", moved, bundle)[1] == plan
    toy_frame(5, 1).to_csv(tmp_path / "other.csv", index=False)
    for what, call in {
        "other rows": (tmp_path / "other.csv", bundle, {}),
        "another bundle": (rows, cascade_bundle, {}),
        "other settings": (rows, bundle, {"probabilities": True}),
    }.items():
        with pytest.raises(InputError, match=what):
            planned(tmp_path / "out", call[0], call[1], **call[2])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("new.txt", "goal", "no table"), ("new.csv", "body\ngoal\n", "no column 'text'"),
        ("new.csv", "text\n", "no rows"), ("new.csv", "text,reason\ngoal,a\n", "'reason'"),
        ("new.parquet", "goal", "no Parquet"),
    ],
)  # fmt: skip
def test_an_input_that_cannot_be_scored_is_refused(
    name: str, content: str, said: str, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said):
        planned(tmp_path / "out", tmp_path / name, bundle)


def test_shards_are_at_most_64_and_share_the_parts(rows: Path, bundle: Path, tmp_path: Path) -> None:
    _, plan = planned(tmp_path / "out", rows, bundle, part_rows=50)
    assert shards_of(plan, 64) == [0, 1, 2, 3, 4] and shards_of(plan, 2) == [0, 1]
    assert sorted(part.name for shard in (0, 1) for part in plan.of_shard(shard, 2)) == [p.name for p in plan.parts]
    for wrong in (0, 65):
        with pytest.raises(InputError, match="1 to 64"):
            shards_of(plan, wrong)
