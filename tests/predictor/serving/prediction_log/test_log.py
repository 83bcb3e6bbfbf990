"""The log beside a store that works, fails, hangs or is full: what is stored, what is dropped, what is counted."""

import gzip
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from components.monitoring.log.reading import read_predictions
from predictor.errors import Busy
from predictor.records import Feedback, feedback_of, prediction_of, text_hash
from predictor.serving.metrics import Metrics
from predictor.serving.prediction_log import log as module
from predictor.serving.prediction_log.log import LogSettings, PredictionLog
from predictor.serving.prediction_log.parts import Answer, Source, Trace
from predictor.serving.prediction_log.redaction import Redaction
from tests.fakes.storage import object_storage

LABELS = ["Sports", "World"]
ROWS = np.array([[0.75, 0.25], [0.125, 0.875]], dtype=np.float32)


class Logged:
    """A log and what it counted."""

    def __init__(self, url: str, labels: list[str] = LABELS, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.asked_later: list[tuple[float, Callable[[], None]]] = []
        metrics = Metrics("m", "r", ["a"], [8], self.registry)
        given = LogSettings(url, **{"interval": 3600.0, **settings})
        self.log = PredictionLog(given, "m", Source("r", "ab" * 32, labels, given.redaction), metrics)

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        self.asked_later.append((seconds, do))

    def value(self, name: str, **labels: str) -> float:
        who = {"model_name": "m", "revision": "r", **labels}
        return self.registry.get_sample_value(f"text_classifier_{name}", who) or 0.0

    def ask(self, request: str, *texts: str) -> None:
        trace = self.log.trace(request, len(texts))
        if trace is None:
            return
        for place, text in enumerate(texts):
            trace.cleaned[place] = text.strip()
            trace.answered(place, "transformer", len(text))
        self.log.answered(Answer(request, time.time(), list(texts), ROWS[: len(texts)], trace), self.later)
        self.log.make_lines()


def read(folder: Path, kind: str) -> list[dict[str, Any]]:
    parts = sorted(folder.glob(f"m/{kind}/date=*/*.jsonl.gz"))
    assert not [file for file in folder.rglob("*") if file.is_file() and not file.name.endswith(".jsonl.gz")]
    return [json.loads(line) for part in parts for line in gzip.decompress(part.read_bytes()).splitlines()]


class FakeStore:
    """Fails, or waits until the test lets it go on."""

    def __init__(self, put: Callable[[str, bytes], None]) -> None:
        self.really_put = put
        self.fails = 0
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.hanging = threading.Event()
        self.gate.set()

    def put(self, path: str, data: bytes) -> None:
        self.asked.append(path)
        self.hanging.set()
        assert self.gate.wait(60)
        if self.fails:
            self.fails -= 1
            raise OSError(28, "No space left on device")
        self.really_put(path, data)


@contextmanager
def faked(logged: Logged) -> Iterator[FakeStore]:
    store = FakeStore(logged.log._store.put)
    logged.log._writer._put = store.put
    yield store
    store.gate.set()


def test_each_text_becomes_a_record_in_the_folder_of_its_day(tmp_path: Path) -> None:
    logged = Logged(str(tmp_path))
    logged.log.start()
    logged.ask("one", " goal ")
    logged.ask("two", "goal", "treaty")
    logged.log.labelled([Feedback("one", "", "World", "reader")])
    assert (logged.value("log_waiting_records"), logged.value("log_records_total", result="written")) == (4, 0)
    logged.log.close()
    rows = read(tmp_path, "predictions")
    assert [row["id"] for row in rows] == ["one", "two/0", "two/1"]
    for row in rows:
        assert prediction_of(row).bundle == "ab" * 32
    assert rows[0]["text"] == " goal " and rows[0]["characters"] == 6 and rows[0]["text_hash"] == text_hash("goal")
    assert (rows[2]["label"], rows[2]["confidence"], rows[2]["stage"], rows[2]["tokens"]) == (
        "World", 0.875, "transformer", 6,
    )  # fmt: skip
    assert rows[2]["probabilities"] == {"Sports": 0.125, "World": 0.875}
    (label,) = map(feedback_of, read(tmp_path, "feedback"))
    assert (label.id, label.label, label.source, label.time[:10]) == ("one", "World", "reader", rows[0]["time"][:10])
    days = {file.parent.name for file in tmp_path.glob("m/predictions/*/*")}
    assert days == {f"date={rows[0]['time'][:10]}"} and date.fromisoformat(rows[0]["time"][:10])
    assert logged.value("log_records_total", result="written") == 4 and logged.value("log_waiting_records") == 0
    assert logged.value("log_oldest_seconds") == 0 and logged.value("log_errors_total") == 0


def test_a_sample_is_of_whole_requests_and_the_same_in_every_pod(tmp_path: Path) -> None:
    for pod in ("a", "b"):
        logged = Logged(str(tmp_path / pod), sample=0.3)
        logged.log.start()
        for number in range(200):
            logged.ask(f"r{number}", "goal", "treaty")
        logged.log.close()
    first, second = ([row["id"] for row in read(tmp_path / pod, "predictions")] for pod in ("a", "b"))
    assert first == second and 60 < len(first) < 180
    assert {name.removesuffix("/0") for name in first if name.endswith("/0")} == {
        name.removesuffix("/1") for name in first if name.endswith("/1")
    }


@pytest.mark.parametrize(
    ("redaction", "kept"),
    [(Redaction.NONE, "call 12345"), (Redaction.MASK, "call [number]"), (Redaction.TEXT, None)],
)
def test_texts_are_redacted_before_they_are_stored(redaction: Redaction, kept: str | None, tmp_path: Path) -> None:
    logged = Logged(str(tmp_path), redaction=redaction)
    logged.log.start()
    logged.ask("one", "call 12345")
    logged.log.close()
    (row,) = read(tmp_path, "predictions")
    assert (row["text"], row["characters"], row["text_hash"]) == (kept, 10, text_hash("call 12345"))


def test_a_full_store_is_tried_again_with_the_same_part_and_nothing_is_lost(tmp_path: Path) -> None:
    logged = Logged(str(tmp_path))
    with faked(logged) as store:
        store.fails = 2
        for number in range(50):
            logged.ask(f"r{number}", "goal")
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                logged.log._writer.flush()
        logged.ask("later", "goal")
        assert logged.value("log_waiting_records") == 51 and logged.value("log_oldest_seconds") > 0
        logged.log._writer.flush()
    assert len(set(store.asked)) == 2 and store.asked[0] == store.asked[1] == store.asked[2]
    assert [row["id"] for row in read(tmp_path, "predictions")] == [*(f"r{n}" for n in range(50)), "later"]
    assert logged.value("log_waiting_records") == 0
    assert logged.value("log_records_total", result="dropped") == 0


def test_the_thread_counts_a_failure_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predictor.serving.prediction_log.writer._RETRY", 0.01)
    logged = Logged(str(tmp_path), interval=0.01)
    with faked(logged) as store:
        store.fails = 3
        logged.log.start()
        logged.ask("one", "goal")
        logged.log._writer._thread.join(0.2)
        logged.log.close()
    assert [row["id"] for row in read(tmp_path, "predictions")] == ["one"]
    assert logged.value("log_errors_total") == 3


def test_a_store_that_hangs_makes_nobody_wait_and_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_RECORDS", 100)
    logged = Logged(str(tmp_path))
    with faked(logged) as store:
        store.gate.clear()
        logged.log.start()
        logged.ask("first", "goal")
        logged.log._writer.wake()
        assert store.hanging.wait(30)
        for number in range(200):  # the thread is in the store all the while
            logged.ask(f"r{number}", "goal")
        assert logged.value("log_records_total", result="dropped") == 101
        assert logged.value("log_waiting_records") == 100 and logged.value("log_oldest_seconds") > 0
        with pytest.raises(Busy, match="send the feedback again later"):
            logged.log.labelled([Feedback("first", "", "World", None)])
        store.gate.set()
        logged.log.close()
    kept = [row["id"] for row in read(tmp_path, "predictions")]
    assert kept == ["first", *(f"r{number}" for number in range(99))]
    assert logged.value("log_records_total", result="written") == 100


def test_the_end_waits_for_a_hanging_store_only_so_long_and_says_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "END_SECONDS", 0.1)
    logged = Logged(str(tmp_path))
    with faked(logged) as store:
        store.gate.clear()
        logged.log.start()
        logged.ask("one", "goal")
        logged.log.close()
        assert logged.log._writer._thread.is_alive() and logged.log._writer._thread.daemon
    (said,) = caplog.messages
    assert json.loads(said) == {"event": "prediction log not stored at the end", "records": 1}


def test_memory_bounds_what_waits_whatever_the_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    logged = Logged(str(tmp_path))
    for number in range(5):
        logged.ask(f"r{number}", "x" * 3000)
    assert logged.value("log_waiting_records") == 2 and logged.value("log_records_total", result="dropped") == 3


def test_memory_that_a_record_holds_is_counted_whatever_holds_it(tmp_path: Path) -> None:
    logged = Logged(str(tmp_path), [str(number) for number in range(1000)])
    rows = np.ones((1, 1000), dtype=np.float32)
    freed = weakref.ref(rows)
    logged.log.answered(Answer("😀" * 1024, 0.0, ["goal"], rows, Trace.of(1)), logged.later)
    logged.log.make_lines()
    del rows
    before = logged.log._buffer.bytes
    assert freed() is None and before > 4 * 1024  # too many labels to keep their probabilities
    logged.log.labelled([Feedback("😀" * 1024, "", "World", None)])
    assert logged.log._buffer.bytes - before > 4 * 1024


def test_a_text_that_cannot_be_written_takes_no_other_with_it(tmp_path: Path) -> None:
    logged = Logged(str(tmp_path))
    logged.ask("bad", "\ud800")
    logged.ask("good", "goal")
    logged.log._writer.flush()
    assert [row["id"] for row in read(tmp_path, "predictions")] == ["good"]
    assert logged.value("log_records_total", result="dropped") == 1 and logged.value("log_waiting_records") == 0
    assert logged.value("log_errors_total") == 1


_AT_ONCE = module._RECORDS_AT_ONCE


def _one(request: str, seconds: float = 0.0, text: str = "goal") -> Answer:
    return Answer(request, seconds, [text], ROWS[:1], Trace.of(1))


def test_lines_of_requests_are_made_together_or_soon(tmp_path: Path) -> None:
    logged = Logged(str(tmp_path))
    entries, names = logged.log._buffer._entries, [f"r{number}" for number in range(_AT_ONCE)]
    for name in names:
        assert not entries
        logged.log.answered(_one(name), logged.later)
    assert len(entries) == 1 and logged.value("log_waiting_records") == _AT_ONCE
    ((seconds, do),) = logged.asked_later
    assert seconds == module._SOON and seconds + logged.log._writer._interval == 3600.0  # what a kill loses at most
    logged.log.answered(_one("next"), logged.later)
    assert len(entries) == 1 and len(logged.asked_later) == 1  # one call at a time is enough
    assert logged.value("log_waiting_records") == _AT_ONCE + 1
    do()
    assert len(entries) == 2
    do()
    assert len(entries) == 2
    logged.log.answered(_one("later"), logged.later)
    assert len(logged.asked_later) == 2
    logged.log.answered(_one("long", text="x" * module._CHARACTERS_AT_ONCE), logged.later)
    assert len(entries) == 3
    logged.log.answered(_one("last"), logged.later)
    logged.log.start()
    logged.log.close()
    assert [row["id"] for row in read(tmp_path, "predictions")] == [*names, "next", "later", "long", "last"]
    assert logged.value("log_waiting_records") == 0


def test_requests_before_and_after_midnight_are_in_parts_of_their_days(tmp_path: Path) -> None:
    logged = Logged(str(tmp_path))
    for number, seconds in enumerate((86_399.9, 86_400.0, 86_399.8)):  # a clock may be set back
        logged.log.answered(_one(str(number), seconds), logged.later)
    logged.log.make_lines()
    logged.log._writer.flush()
    days = {part.parent.name: part for part in tmp_path.glob("m/predictions/date=*/*")}
    ids = {
        day: [json.loads(line)["id"] for line in gzip.decompress(part.read_bytes()).splitlines()]
        for day, part in days.items()
    }
    assert ids == {"date=1970-01-01": ["0", "2"], "date=1970-01-02": ["1"]}


def test_a_request_is_answered_even_if_its_record_cannot_be_made(tmp_path: Path) -> None:
    logged = Logged(str(tmp_path))
    broken: Any = None
    logged.log.answered(Answer("one", 0.0, ["goal"], broken, Trace.of(1)), logged.later)
    logged.log.answered(Answer("two", 0.0, ["goal"], ROWS[:1], Trace.of(1)), logged.later)
    logged.log.make_lines()
    logged.log._writer.flush()
    assert [row["id"] for row in read(tmp_path, "predictions")] == ["two"]
    assert logged.value("log_records_total", result="dropped") == 1 and logged.value("log_errors_total") == 1


def test_many_labels_leave_probabilities_out(tmp_path: Path) -> None:
    logged = Logged(str(tmp_path), [f"label {number}" for number in range(101)])
    rows = np.zeros((1, 101), dtype=np.float32)
    rows[0, 7] = 1
    logged.log.answered(Answer("one", 0.0, ["goal"], rows, Trace.of(1)), logged.later)
    logged.log.make_lines()
    logged.log._writer.flush()
    (row,) = read(tmp_path, "predictions")
    assert (row["label"], row["confidence"], row["probabilities"]) == ("label 7", 1.0, None)


def test_a_long_stretch_of_records_becomes_parts_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predictor.serving.prediction_log.writer.MOST_IN_A_PART", 10)
    logged = Logged(str(tmp_path))
    for number in range(35):
        logged.ask(f"r{number:02}", "goal")
    logged.log._writer.flush()
    assert len(list(tmp_path.glob("m/predictions/date=*/*.jsonl.gz"))) == 4
    assert sorted(row["id"] for row in read(tmp_path, "predictions")) == [f"r{number:02}" for number in range(35)]


def test_what_comes_in_while_a_part_is_stored_waits_for_the_next_one(tmp_path: Path) -> None:
    logged = Logged(str(tmp_path))
    logged.ask("first", "goal")
    with faked(logged) as store:

        def busy(path: str, data: bytes) -> None:
            if len(store.asked) < 5:
                logged.ask(f"during {len(store.asked)}", "goal")

        store.really_put = busy
        for parts in (1, 2):
            logged.log._writer.flush()
            assert len(store.asked) == parts and logged.value("log_waiting_records") == 1


@pytest.mark.parametrize("bound", ["MOST_IN_A_PART", "_BYTES_OF_A_PART"])
def test_a_part_that_is_full_does_not_wait_for_its_time(
    bound: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, bound, {"MOST_IN_A_PART": 2, "_BYTES_OF_A_PART": 1000}[bound])
    logged = Logged(str(tmp_path))
    with faked(logged) as store:
        logged.log.start()
        logged.ask("one", "goal")
        assert not store.hanging.wait(0.2)
        logged.ask("two", "goal")
        assert store.hanging.wait(30)
        logged.log.close()


def test_records_of_two_days_go_into_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Logged(str(tmp_path))
    for seconds in (1764460799.9, 1764460800.1):
        monkeypatch.setattr("time.time", lambda seconds=seconds: seconds)
        logged.ask(f"at {seconds}", "goal")
    logged.log._writer.flush()
    days = sorted(file.parent.name for file in tmp_path.glob("m/predictions/*/*"))
    assert days == ["date=2025-11-29", "date=2025-11-30"]
    assert all(f"date={row['time'][:10]}" in days for row in read(tmp_path, "predictions"))


def test_parts_go_to_object_storage_each_by_one_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predictor.serving.prediction_log.log.END_SECONDS", 120.0)  # on a busy machine
    with object_storage(monkeypatch) as bucket:
        logged = Logged(f"{bucket}/log")
        logged.log.start()
        for number in range(3):
            logged.ask(f"r{number}", "goal")
        logged.log.close()
        assert sorted(record.id for record in read_predictions(f"{bucket}/log", "m")) == ["r0", "r1", "r2"]
        files, base = fsspec.core.url_to_fs(f"{bucket}/log")
        assert len(files.find(base)) == 1
    assert logged.value("log_records_total", result="written") == 3
