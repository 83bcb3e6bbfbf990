"""Compaction keeps every record, whatever stops it and whoever else compacts."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.monitoring.log import component
from components.monitoring.log.compaction import compact
from components.monitoring.log.parts import Log
from components.monitoring.log.reading import read_feedback, read_predictions, read_window
from predictor.errors import InputError
from tests.components.monitoring.log.parts import MODEL, NOON, feedback, names, packed, prediction, put
from tests.fakes.storage import object_storage

LATER = NOON + timedelta(days=2)


@pytest.fixture(params=["local", "s3"])
def log(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "log")
    else:
        with object_storage(monkeypatch) as bucket:
            yield f"{bucket}/log"


def filled(uri: str) -> None:
    for number in range(5):
        put(uri, f"part-{number}", [prediction(f"r{number}/{place}", text=f"text {place}") for place in range(3)])
    put(uri, "no-tokens", [prediction("bare", tokens=None, text=None, probabilities=None, stage=None)])
    put(uri, "f", [feedback("r0/0", "World", source="reader"), feedback("r1/0", "World")])


def content(uri: str) -> tuple[list[Any], list[Any]]:
    records = sorted(read_predictions(uri, MODEL), key=lambda record: record.id)
    return records, sorted(read_feedback(uri, MODEL), key=lambda record: record.id)


def test_a_day_that_is_over_becomes_one_file_with_the_same_records(log: str) -> None:
    filled(log)
    before = content(log)
    done = compact(log, MODEL, LATER)
    assert (done.days, done.parts, done.records, done.copies) == (2, 7, 18, 0)
    assert content(log) == before and len(before[0]) == 16
    parts = list(Log(log, MODEL).parts("predictions"))
    assert [part.compacted for part in parts] == [True]
    assert compact(log, MODEL, LATER).days == 0


def test_a_day_that_is_not_over_is_left_alone(tmp_path: Path) -> None:
    filled(str(tmp_path))
    before = names(tmp_path)
    end = datetime(2026, 11, 21, tzinfo=UTC)
    for now in (NOON, end, end + timedelta(minutes=59)):
        assert compact(str(tmp_path), MODEL, now).days == 0 and names(tmp_path) == before
    assert compact(str(tmp_path), MODEL, end + timedelta(hours=1)).days == 2


def test_late_parts_join_the_compacted_file(tmp_path: Path) -> None:
    uri = str(tmp_path)
    filled(uri)
    compact(uri, MODEL, LATER)
    put(uri, "late", [prediction("late"), prediction("r0/0", text="text 0")])
    before = content(uri)
    done = compact(uri, MODEL, LATER)
    assert done.copies == 1 and content(uri) == before
    assert len(list(Log(uri, MODEL).parts("predictions"))) == 1


class Killed(BaseException):
    """Ends a run as a kill does: nothing that follows is done."""


@pytest.mark.parametrize(("removals", "copies"), [(0, 16), (1, 15), (3, 9)])
def test_a_run_that_is_killed_loses_and_doubles_nothing(
    removals: int, copies: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path)
    filled(uri)
    before = content(uri)
    really_remove, left = Log.remove, [removals]

    def remove(self: Log, part: Any) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        really_remove(self, part)

    monkeypatch.setattr(Log, "remove", remove)
    with pytest.raises(Killed):
        compact(uri, MODEL, LATER)
    monkeypatch.undo()
    assert content(uri) == before  # both are there
    window = read_window(uri, MODEL, NOON - timedelta(hours=1), NOON + timedelta(hours=1), now=LATER)
    assert len(window.predictions) == 16 and window.left.copies == copies
    compact(uri, MODEL, LATER)
    assert content(uri) == before and len(list(Log(uri, MODEL).parts("predictions"))) == 1


def test_a_run_that_is_killed_before_its_file_is_whole_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path)
    filled(uri)
    before = content(uri)

    def killed(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(Killed):
        compact(uri, MODEL, LATER)
    monkeypatch.undo()
    assert content(uri) == before
    compact(uri, MODEL, LATER)
    assert content(uri) == before


def test_two_runs_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path)
    filled(uri)
    before = content(uri)
    really_read = Log.read
    other = [True]

    def read(self: Log, part: Any) -> Any:
        if "part-2" in part.path and other.pop():
            other.append(False)
            compact(uri, MODEL, LATER)  # all of it, between two reads of the first
        return really_read(self, part)

    monkeypatch.setattr(Log, "read", read)
    compact(uri, MODEL, LATER)
    monkeypatch.undo()
    assert content(uri) == before
    compact(uri, MODEL, LATER)
    assert content(uri) == before and len(list(Log(uri, MODEL).parts("predictions"))) == 1


def test_the_step_compacts_and_says_what_it_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(str(tmp_path))
    put(str(tmp_path), "empty", [prediction("x")], b"")
    assert component.compact.python_func(str(tmp_path), MODEL) == 2
    said = capsys.readouterr().out
    assert (
        "18 records of 2 days compacted, from 7 parts; 0 copies" in said and "empty.jsonl.gz is left as it is" in said
    )


def test_damaged_parts_stay_as_they_are_and_are_named(tmp_path: Path) -> None:
    uri = str(tmp_path)
    filled(uri)
    whole = packed([prediction(f"x{number}", text=f"text {number * 7919}") for number in range(200)])
    truncated = put(uri, "truncated", [prediction("x")], whole[: len(whole) // 2])
    before = content(uri)
    done = compact(uri, MODEL, LATER)
    assert list(done.damaged) == ["date=2026-11-20/truncated.jsonl.gz"] and content(uri) == before
    assert Path(truncated).read_bytes() == whole[: len(whole) // 2]
    again = compact(uri, MODEL, LATER)
    assert again.days == 0 and again.damaged == done.damaged


def test_a_place_that_cannot_be_written_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(str(tmp_path))
    before = names(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"No space left on device.*run the step again"):
        compact(str(tmp_path), MODEL, LATER)
    assert names(tmp_path) == before
