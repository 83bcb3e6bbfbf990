"""Batches that are killed, damaged, shared and paused: the files that come out are the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.scoring.gauges import publish_batch
from components.scoring.plan import Plan, Settings
from components.scoring.steps import merge_batch, plan_batch, score_here, score_shard
from components.scoring.store import Store
from components.scoring.work import Entries, Entry
from predictor.errors import InputError
from tests.components.scoring.conftest import digests, mislabelled, planned, scored
from tests.conftest import toy_frame
from tests.fakes.storage import object_storage

SETTINGS = Settings(part_rows=40)


@pytest.fixture(scope="module")
def finished(rows: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a batch that nothing disturbed."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    result = score_here(str(rows), str(bundle), str(folder), SETTINGS)
    assert (result["rows"], result["finished_rows"], result["paused"]) == (250, 250, False)
    assert result["sha256"] == json.loads((folder / "manifest.json").read_text())["sha256"]
    return folder


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with object_storage(monkeypatch) as address:
        yield address


def test_the_manifest_says_what_went_in_and_came_out(finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    files = digests(finished)
    assert manifest["rows"] == 250 and len(manifest["parts"]) == 7
    assert sum(manifest["labelled"].values()) == 247 and sum(manifest["unlabelled"].values()) == 3
    for part in manifest["parts"]:
        assert part["sha256"] == files[part["file"]]
        assert part["input_sha256"] == files[part["file"].replace("output", "input")]
    assert {"pigeonhole", "onnxruntime", "pyarrow"} <= manifest["versions"].keys()
    cost = json.loads((finished / "cost.json").read_text())
    assert cost["rows"] == 250 and cost["rows_per_core_second"] > 0
    assert len(scored(finished)) == 250


@pytest.mark.parametrize("shards", [1, 3, 7, 64])
def test_the_bytes_do_not_depend_on_the_shards(
    shards: int, rows: Path, bundle: Path, finished: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    plan = plan_batch(str(rows), str(bundle), out, SETTINGS)
    for shard in reversed(range(min(shards, len(plan.parts)))):
        assert score_shard(str(bundle), out, shard, shards)
    merge_batch(out)
    assert digests(tmp_path / "out") == digests(finished)


_KILLED = """
import os, sys
from components.scoring import work
from components.scoring.plan import Settings
from components.scoring.steps import score_here

score = work.score_part
parts = []

def killed(source, target, *rest):
    counts = score(source, target, *rest)
    parts.append(source)
    if len(parts) == 3:  # its file is written aside, not yet renamed
        os.kill(os.getpid(), 9)
    return counts

work.score_part = killed
score_here(*sys.argv[1:4], Settings(part_rows=40))
"""


def test_a_batch_that_was_killed_goes_on_and_gives_the_same_files(
    rows: Path, bundle: Path, finished: Path, tmp_path: Path
) -> None:
    command: list[str | Path] = [sys.executable, "-c", _KILLED, rows, bundle, tmp_path / "out"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    entries = tmp_path / "out/entries"
    assert sorted(file.name for file in entries.iterdir()) == ["part-00000.json", "part-00001.json"]
    first = (tmp_path / "out/output/part-00000.parquet").stat().st_ino
    assert not (tmp_path / "out/manifest.json").exists()
    result = score_here(str(rows), str(bundle), str(tmp_path / "out"), SETTINGS)
    assert result["finished_rows"] == 250
    assert (tmp_path / "out/output/part-00000.parquet").stat().st_ino == first  # not scored again
    assert digests(tmp_path / "out") == digests(finished)
    assert not [file for file in tmp_path.rglob(".*") if file.is_file()]


def test_a_split_that_was_killed_begins_anew(rows: Path, bundle: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "input", tmp_path / "out/input")
    (tmp_path / "out/input/part-00001.parquet").write_bytes(b"half")
    score_here(str(rows), str(bundle), str(tmp_path / "out"), SETTINGS)
    assert digests(tmp_path / "out") == digests(finished)


def test_what_another_batch_left_in_the_folder_counts_for_nothing(
    rows: Path, bundle: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    toy_frame(120, 33).to_parquet(tmp_path / "other.parquet", index=False)
    score_here(str(tmp_path / "other.parquet"), str(bundle), str(out), SETTINGS)
    (out / "plan.json").unlink()
    result = score_here(str(rows), str(bundle), str(out), SETTINGS)
    assert result["finished_rows"] == 250
    assert digests(out) == digests(finished)


def test_how_often_entries_are_listed_does_not_grow_with_the_finished_parts(
    rows: Path, bundle: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "out/entries/part-00006.json").unlink()
    names, listed = Store.names, list[str]()

    def noted(store: Store, folder: str) -> set[str]:
        listed.append(folder)
        return names(store, folder)

    monkeypatch.setattr(Store, "names", noted)
    assert score_shard(str(bundle), str(tmp_path / "out"), 0, 1)
    assert listed == ["entries"] * 3  # at first, before the part that is left, and at the end


@pytest.mark.parametrize("damage", ["cut", "gone", "no entry"])
def test_a_damaged_part_is_scored_again(damage: str, rows: Path, bundle: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    file = tmp_path / "out/output/part-00002.parquet"
    if damage == "cut":
        os.truncate(file, 100)
    elif damage == "gone":
        file.unlink()
    else:
        (tmp_path / "out/entries/part-00002.json").unlink()
    score_here(str(rows), str(bundle), str(tmp_path / "out"), SETTINGS)
    assert digests(tmp_path / "out") == digests(finished)


def test_what_does_not_belong_together_is_refused(
    rows: Path, bundle: Path, cascade_bundle: Path, finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="holds no batch"):
        score_shard(str(bundle), str(tmp_path), 0, 1)
    planned(tmp_path / "out", rows, bundle, part_rows=40)
    with pytest.raises(InputError, match="not the bundle"):
        score_shard(str(cascade_bundle), str(tmp_path / "out"), 0, 1)
    with pytest.raises(InputError, match="no shard 2 of 2"):
        score_shard(str(bundle), str(tmp_path / "out"), 2, 2)
    with pytest.raises(InputError, match="lacks part-00000"):
        merge_batch(str(tmp_path / "out"))
    os.truncate(tmp_path / "out/input/part-00000.parquet", 50)
    with pytest.raises(InputError, match="was changed"):
        score_shard(str(bundle), str(tmp_path / "out"), 0, 1)


def test_object_storage_gives_the_same_files(rows: Path, bundle: Path, finished: Path, bucket: str) -> None:
    out = f"{bucket}/batch"
    score_here(str(rows), str(bundle), out, SETTINGS)
    store = Store(out)
    for name, digest in digests(finished).items():
        assert store.digest(name) == digest, name
    store.remove("entries/part-00003.json")
    assert score_here(str(rows), str(bundle), out, SETTINGS)["finished_rows"] == 250
    assert store.digest("output/part-00003.parquet") == digests(finished)["output/part-00003.parquet"]


def test_canaries_leave_no_trace_in_what_comes_out(
    rows: Path, labelled: Path, bundle: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = score_here(str(rows), str(bundle), str(out), Settings(part_rows=40, canaries=str(labelled)))
    assert result["canaries"]["rows"] == 40 and result["canaries"]["right"] >= 36 and not result["paused"]
    assert scored(out).equals(scored(finished))


def test_a_batch_pauses_when_its_canaries_are_wrong_and_goes_on(labelled: Path, bundle: Path, tmp_path: Path) -> None:
    toy_frame(100, 31)[["text"]].to_csv(tmp_path / "new.csv", index=False)
    source, wrong = str(tmp_path / "new.csv"), mislabelled(labelled, tmp_path / "wrong.csv", 0.5)
    settings, out = Settings(part_rows=30, canaries=str(wrong)), tmp_path / "out"
    result = score_here(source, str(bundle), str(out), settings)
    assert result["paused"] and 0 < result["finished_rows"] < 300 and result["manifest"] is None
    assert "shown to be more than 5 points under" in result["reason"]
    publish_batch(str(out), metrics_file=tmp_path / "batch.prom")
    assert 'text_classifier_batch_paused{model_name="toy"} 1.0' in (tmp_path / "batch.prom").read_text()
    again = score_here(source, str(bundle), str(out), settings)
    assert again["paused"] and again["finished_rows"] == result["finished_rows"]  # until somebody has looked
    with pytest.raises(InputError, match="is paused"):
        merge_batch(str(out))
    on = score_here(source, str(bundle), str(out), settings, resume=True)
    assert on["finished_rows"] > result["finished_rows"]
    assert on["paused"]  # what was looked at does not count again, what comes then does
    while on["paused"]:
        on = score_here(source, str(bundle), str(out), settings, resume=True)
    assert len(scored(out)) == 300
    publish_batch(str(out), metrics_file=tmp_path / "batch.prom")
    lines = (tmp_path / "batch.prom").read_text().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['text_classifier_batch_paused{model_name="toy"}'] == "0.0"
    assert 0.4 < float(values['text_classifier_batch_accuracy_ratio{model_name="toy"}']) < 0.6
    assert float(values['text_classifier_batch_baseline_accuracy_ratio{model_name="toy"}']) > 0.8
    assert float(values['text_classifier_batch_time_seconds{model_name="toy"}']) > 1.7e9


def test_labels_that_the_bundle_does_not_know_pause_nothing(bundle: Path, tmp_path: Path) -> None:
    frame = toy_frame(40, 32)
    frame["label"] = "7"
    frame.to_csv(tmp_path / "new.csv", index=False)
    result = score_here(str(tmp_path / "new.csv"), str(bundle), str(tmp_path / "out"), SETTINGS)
    assert not result["paused"] and (result["canaries"]["rows"], result["canaries"]["not_counted"]) == (0, 120)
    publish_batch(str(tmp_path / "out"), metrics_file=tmp_path / "batch.prom")
    assert 'text_classifier_batch_accuracy_ratio{model_name="toy"} NaN' in (tmp_path / "batch.prom").read_text()


def test_an_entry_that_is_gone_counts_no_more(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    store = Store(str(tmp_path / "out"))
    entries = Entries(store, Plan.read(store) or pytest.fail())
    assert len(entries()) == 7
    store.remove("entries/part-00003.json")  # by another worker, which found its output damaged
    assert "part-00003" not in entries() and len(entries()) == 6


def test_an_entry_is_read_as_it_was_written(finished: Path, tmp_path: Path) -> None:
    entry = Entry.read(Store(str(finished)), "part-00001")
    assert entry and entry.counts.rows == 40
    entry.write(Store(str(tmp_path)))
    assert Entry.read(Store(str(tmp_path)), "part-00001") == entry
    assert Entry.read(Store(str(tmp_path)), "part-00002") is None
