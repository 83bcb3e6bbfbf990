"""Windows of a log, whatever happened to its parts, its clocks and its feedback."""

import gzip
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fsspec.implementations.local import LocalFileSystem

from components.monitoring.log.reading import Window, read_feedback, read_predictions, read_window
from predictor.errors import InputError
from predictor.records import Feedback
from tests.components.monitoring.log.parts import MODEL, NOON, feedback, packed, prediction, put
from tests.fakes.storage import object_storage

HOUR = timedelta(hours=1)


@pytest.fixture(params=["local", "s3"])
def log(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "log")
    else:
        with object_storage(monkeypatch) as bucket:
            yield f"{bucket}/log"


def window(uri: str, start: datetime = NOON - HOUR, end: datetime = NOON + HOUR) -> Window:
    return read_window(uri, MODEL, start, end, now=NOON + timedelta(days=2))


def ids(got: Window) -> list[str]:
    return list(got.predictions["id"])


def test_a_window_has_the_predictions_of_its_time_across_parts_and_days(log: str) -> None:
    put(log, "b", [prediction("late", "2026-11-20T00:30:00.000Z"), prediction("end", "2026-11-20T01:00:00.000Z")])
    put(log, "a", [prediction("early", "2026-11-19T23:30:00.000Z"), prediction("before", "2026-11-19T22:59:59.999Z")])
    midnight = NOON.replace(hour=0)
    got = window(log, midnight - HOUR, midnight + HOUR)
    assert ids(got) == ["early", "late"] and got.left.outside == 2 and got.left.parts == 2
    assert got.predictions["time"].dt.tz is not None and got.predictions["probabilities"][0] == {
        "Sports": 0.75, "World": 0.25,
    }  # fmt: skip


def test_a_log_that_is_not_there_is_an_empty_window(tmp_path: Path) -> None:
    got = window(str(tmp_path / "none"))
    assert ids(got) == [] and got.left.parts == 0 and list(got.labelled) == [
        *got.predictions, "truth", "truth_time", "truth_source",
    ]  # fmt: skip
    pd.testing.assert_series_equal(got.predictions.dtypes, got.labelled.dtypes[:-3])


@pytest.mark.parametrize("start", [NOON, NOON + HOUR, NOON.replace(tzinfo=None)])
def test_a_window_without_time_or_zone_is_refused(start: datetime, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is none"):
        read_window(str(tmp_path), MODEL, start, NOON)


def test_damaged_parts_are_counted_and_skipped_with_a_reason_and_nothing_else_is(tmp_path: Path) -> None:
    log = str(tmp_path)
    records = [prediction(f"r{number}", text=f"text {number * 7919}") for number in range(200)]
    whole = packed(records)
    flipped = bytearray(whole)
    flipped[-6] ^= 1  # in the checksum
    put(log, "good", [prediction("good")])
    put(log, "empty", records, b"")
    put(log, "flipped", records, bytes(flipped))
    put(log, "no-gzip", records, b"hello")
    put(log, "truncated", records, whole[: len(whole) // 2])
    put(log, "whole", [prediction("other")])
    got = window(log)
    reasons = {name.rpartition("/")[2].removesuffix(".jsonl.gz"): text for name, text in got.left.damaged.items()}
    assert reasons.keys() == {"empty", "flipped", "no-gzip", "truncated"} and got.left.parts == 6
    assert reasons["empty"] == "it is empty" and "truncated" in reasons["truncated"]
    assert "damaged" in reasons["flipped"] and "damaged" in reasons["no-gzip"]
    saved = set(ids(got)) - {"good", "other"}
    assert saved and saved == {f"r{number}" for number in range(len(saved))}  # those before the end, and no more
    assert not got.left.bad_lines


def test_lines_that_are_no_records_are_counted_by_reason(tmp_path: Path) -> None:
    good = gzip.decompress(packed([prediction("good")]))
    lines = [b"", b"{", b"[]", b'{"id": 5}', b"\xff\xfe", good.replace(b"0.75", b"7.5", 1).strip(), b"[" * 100_000]
    put(str(tmp_path), "part", [prediction("x")], gzip.compress(b"\n".join([*lines, good])))
    got = window(str(tmp_path))
    assert ids(got) == ["good"] and got.left.bad_lines.total() == len(lines)
    assert got.left.bad_lines["the line is no JSON"] == 4 and got.left.bad_lines["'confidence' is no share of 1"] == 2


def test_what_is_being_written_and_what_is_of_others_is_not_read(tmp_path: Path) -> None:
    path = Path(put(str(tmp_path), "part", [prediction("good")]))
    (path.parent / ".0a1b2c3d.part.jsonl.gz").write_bytes(packed([prediction("hidden")]))
    (path.parent / "notes.txt").write_text("notes")
    (path.parent.parent / "date=tomorrow").mkdir()
    (path.parent.parent / "other").mkdir()
    assert ids(window(str(tmp_path))) == ["good"]


def test_a_record_that_stands_twice_counts_once_but_a_reused_id_does_not(tmp_path: Path) -> None:
    log = str(tmp_path)
    put(log, "a", [prediction("r1"), prediction("r1", text="treaty"), prediction("r1", "2026-11-20T12:00:01.000Z")])
    put(log, "b", [prediction("r1")])
    got = window(log)
    assert len(got.predictions) == 3 and got.left.copies == 1


def test_clocks_that_jump_put_records_where_their_time_says_and_the_future_is_named(tmp_path: Path) -> None:
    log = str(tmp_path)
    put(log, "a", [prediction("r1"), prediction("back", "2026-11-20T11:30:00.000Z"), prediction("r2")])
    put(log, "b", [prediction("future", "2031-01-01T00:00:00.000Z")])
    put(log, "c", [prediction("past", "1970-01-01T00:00:00.000Z")])
    got = window(log)
    assert ids(got) == ["back", "r1", "r2"] and got.left.future_days == ["2031-01-01"]
    assert [record.id for record in read_predictions(log, MODEL)] == ["past", "r1", "back", "r2", "future"]


def test_labels_meet_their_predictions_and_the_last_one_counts(tmp_path: Path) -> None:
    log = str(tmp_path)
    put(log, "a", [prediction("one"), prediction("two/0"), prediction("two/1", text="treaty"), prediction("none")])
    put(log, "f", [feedback("two/1", "World", source="reader"), feedback("one", "World"), feedback("ghost", "World")])
    put(log, "g", [feedback("one", "World", "2026-11-21T10:00:00.000Z")])
    put(log, "h", [feedback("two/1", "Sports", "2026-11-20T12:30:00.000Z")])  # earlier, though in a later part
    got = window(log)
    labelled = got.labelled.set_index("id")
    assert dict(labelled["truth"]) == {"one": "World", "two/1": "World"}
    assert labelled.loc["two/1", "truth_source"] == "reader" and labelled.loc["two/1", "text"] == "treaty"
    left = got.left
    assert (left.repeated_feedback, left.changed_feedback, left.unknown_feedback) == (1, 1, 1)
    assert len(got.predictions) == 4


def test_feedback_sent_a_hundred_times_is_one_label(tmp_path: Path) -> None:
    log = str(tmp_path)
    put(log, "a", [prediction("one")])
    put(log, "f", [feedback("one", "World", f"2026-11-20T13:00:{number % 60:02}.000Z") for number in range(100)])
    got = window(log)
    assert list(got.labelled["truth"]) == ["World"] and got.left.repeated_feedback + got.left.copies == 99


def test_a_label_for_an_id_of_different_texts_is_not_guessed(tmp_path: Path) -> None:
    log = str(tmp_path)
    put(log, "a", [prediction("42", text="goal"), prediction("42", "2026-11-20T12:10:00.000Z", text="treaty")])
    put(log, "b", [prediction("again"), prediction("again", "2026-11-20T12:00:05.000Z")])
    put(log, "f", [feedback("42", "World"), feedback("again", "World")])
    got = window(log)
    assert list(got.labelled["id"]) == ["again"] and got.left.ambiguous_feedback == 1


def test_labels_that_come_after_the_time_that_is_asked_for_do_not_count(tmp_path: Path) -> None:
    log = str(tmp_path)
    put(log, "a", [prediction("one")])
    put(log, "f", [feedback("one", "World", "2026-11-25T13:00:00.000Z")])
    until = NOON + timedelta(days=3)
    assert read_window(log, MODEL, NOON - HOUR, NOON + HOUR, until=until).labelled.empty
    assert len(read_window(log, MODEL, NOON - HOUR, NOON + HOUR).labelled) == 1


def test_all_feedback_is_read_as_it_came(tmp_path: Path) -> None:
    log = str(tmp_path)
    given = [feedback("one", "World"), feedback("one", "Sports"), feedback("two", "World", "2026-11-25T13:00:00.000Z")]
    put(log, "f", given[:2])
    put(log, "g", given[2:])
    assert list(read_feedback(log, MODEL)) == given
    assert all(isinstance(record, Feedback) for record in given)


def test_a_store_that_cannot_be_read_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(str(tmp_path), "a", [prediction("one")])

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError("not yours")

    for method in ("ls", "cat_file"):
        monkeypatch.setattr(LocalFileSystem, method, refused)
        with pytest.raises(InputError, match=r"cannot be read .PermissionError: not yours.: look at the address"):
            window(str(tmp_path))
        monkeypatch.undo()


def test_a_part_that_is_compacted_meanwhile_is_a_reason_to_read_again(tmp_path: Path) -> None:
    path = Path(put(str(tmp_path), "a", [prediction("one")]))
    put(str(tmp_path), "b", [prediction("two")])
    rows = read_predictions(str(tmp_path), MODEL)
    assert next(rows).id == "one"
    path.with_name("b.jsonl.gz").unlink()
    with pytest.raises(InputError, match="being compacted; read again"):
        next(rows)
