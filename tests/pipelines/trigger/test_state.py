"""What the trigger remembers: which alerts it took, which runs it started, and what it does after a crash."""

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from components.monitoring.decision import Guards
from pipelines.trigger.alerts import Alert, alerts_in
from pipelines.trigger.state import DONE, FAILED, QUEUED, RUNNING, Outcome, State
from predictor.errors import BadRequest, InputError
from tests.pipelines.trigger.webhooks import body, webhook

NOW, HOUR, DAY = 1_000_000_000.0, 3600.0, 86400.0
GUARDS = Guards(cooldown_hours=24, max_a_week=2)
Open = Callable[[], State]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    held: list[State] = []

    def again() -> State:
        held.append(State(tmp_path / "trigger.db", GUARDS))
        return held[-1]

    yield again
    for state in held:
        state.close()


def _alerts(number: int = 0, response: str = "retrain") -> list[Alert]:
    return alerts_in(body(started=f"2026-11-29T10:{number:02}:00Z", response=response))


def _ends(state: State, answer: str, now: float, failed: bool = False) -> None:
    run = state.next_run(now)
    assert run
    state.end(run.id, answer, {}, now, failed)


def test_an_alert_starts_one_run_however_often_it_is_sent(opened: Open) -> None:
    state = opened()
    outcomes = [state.take(_alerts(), NOW + n).outcome for n in range(100)]
    assert outcomes == [Outcome.STARTED] + [Outcome.DUPLICATE] * 99
    _ends(state, "retrain", NOW + 100)
    assert state.take(_alerts(), NOW + 30 * DAY).outcome is Outcome.DUPLICATE
    assert len(state.runs()) == 1 and state.next_run(NOW) is None


def test_a_hundred_at_once_start_one_run(opened: Open) -> None:
    state, outcomes = opened(), list[Outcome]()
    threads = [threading.Thread(target=lambda: outcomes.append(state.take(_alerts(), NOW).outcome)) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted([Outcome.STARTED] + [Outcome.DUPLICATE] * 99)


def test_one_run_at_a_time(opened: Open) -> None:
    state = opened()
    assert state.take(_alerts(0), NOW).outcome is Outcome.STARTED
    assert state.take(_alerts(1), NOW).outcome is Outcome.DUPLICATE  # the run that waits answers both
    run = state.next_run(NOW)
    assert run and state.next_run(NOW) is None
    assert state.take(_alerts(2), NOW).outcome is Outcome.PUT_OFF
    state.end(run.id, "stop", {}, NOW)
    assert state.take(_alerts(2), NOW + 1).outcome is Outcome.STARTED


def test_the_guards_put_off_and_the_alert_may_come_again(opened: Open) -> None:
    state = opened()
    state.take(_alerts(0), NOW)
    _ends(state, "retrain", NOW)
    assert state.take(_alerts(1), NOW + 23 * HOUR).outcome is Outcome.PUT_OFF
    assert state.take(_alerts(1), NOW + 24 * HOUR).outcome is Outcome.STARTED
    _ends(state, "", NOW + 24 * HOUR)  # on Kubeflow, where it may have trained
    put_off = state.take(_alerts(2), NOW + 3 * DAY)
    assert put_off.outcome is Outcome.PUT_OFF and "within seven days" in put_off.reason
    assert state.take(_alerts(2), NOW + 7 * DAY).outcome is Outcome.STARTED


@pytest.mark.parametrize(("answer", "failed"), [("stop", False), ("label", False), ("", True)])
def test_a_run_that_trained_nothing_may_be_followed_by_another(opened: Open, answer: str, failed: bool) -> None:
    state = opened()
    state.take(_alerts(), NOW)
    _ends(state, answer, NOW, failed)
    assert state.take(_alerts(), NOW + HOUR - 1).outcome is Outcome.DUPLICATE
    assert state.take(_alerts(), NOW + HOUR).outcome is Outcome.STARTED


def test_only_responses_of_the_loop_start_something(opened: Open) -> None:
    state = opened()
    for response in ("none", "", "pause-batch"):
        assert state.take(_alerts(0, response), NOW).outcome is Outcome.IGNORED
    assert state.take(alerts_in(body(status="resolved")), NOW).outcome is Outcome.IGNORED
    assert state.take(_alerts(0, "label"), NOW).outcome is Outcome.STARTED


def test_what_was_taken_is_known_after_a_restart(opened: Open) -> None:
    first = opened()
    first.take(_alerts(), NOW)
    first.close()
    second = opened()
    second.recover(NOW)
    assert second.take(_alerts(), NOW).outcome is Outcome.DUPLICATE
    assert [run["state"] for run in second.runs()] == [QUEUED]


def test_a_run_that_was_cut_short_is_begun_once_more(opened: Open) -> None:
    state = opened()
    state.take(_alerts(), NOW)
    for expected in (QUEUED, FAILED):
        assert state.next_run(NOW)
        state.recover(NOW)
        assert [run["state"] for run in state.runs()] == [expected]
    assert state.next_run(NOW) is None
    assert state.take(_alerts(), NOW + HOUR).outcome is Outcome.STARTED


def test_a_kill_while_a_run_is_given_up_leaves_its_alert_free(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened()
    first.take(_alerts(), NOW)
    first.next_run(NOW)
    first.recover(NOW)
    first.next_run(NOW)
    before = first._transaction

    class Killed(BaseException):
        pass

    @contextmanager
    def killed_after_one() -> Iterator[sqlite3.Connection]:
        with before() as database:
            yield database
        raise Killed

    monkeypatch.setattr(first, "_transaction", killed_after_one)
    with pytest.raises(Killed):
        first.recover(NOW)
    second = opened()
    second.recover(NOW)
    assert [run["state"] for run in second.runs()] == [FAILED] and second.runs()[0]["ended"] == NOW
    assert second.take(_alerts(), NOW + HOUR).outcome is Outcome.STARTED


def test_a_run_on_kubeflow_is_waited_for_again_as_often_as_it_takes(opened: Open) -> None:
    state = opened()
    state.take(_alerts(), NOW)
    for _ in range(5):
        run = state.next_run(NOW)
        assert run
        state.handed_over(run.id, "remote-1")
        state.recover(NOW)
    again = state.next_run(NOW)
    assert again and again.remote == "remote-1"


def test_a_run_given_back_has_not_been_tried(opened: Open) -> None:
    state = opened()
    state.take(_alerts(), NOW)
    for _ in range(5):
        run = state.next_run(NOW)
        assert run
        state.give_back(run.id)
    assert [(run["state"], run["attempts"]) for run in state.runs()] == [(QUEUED, 0)]
    _ends(state, "retrain", NOW)
    assert [run["state"] for run in state.runs()] == [DONE]


def test_a_change_that_fails_leaves_nothing(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    state = opened()

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(state, "_link", broken)
    with pytest.raises(sqlite3.OperationalError):
        state.take(_alerts(), NOW)
    monkeypatch.undo()
    assert state.runs() == [] and state.take(_alerts(), NOW).outcome is Outcome.STARTED
    assert RUNNING not in {run["state"] for run in state.runs()}


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trigger.db").write_text("no database, and long enough to have a header of one, which it lacks" * 9)
    with pytest.raises(InputError, match="--state"):
        State(tmp_path / "trigger.db", GUARDS)


def test_alerts_that_began_together_are_one(tmp_path: Path) -> None:
    twice = webhook()
    twice["alerts"].append({**twice["alerts"][0], "labels": {"alertname": "Other", "response": "label"}})
    later = {**twice["alerts"][0], "startsAt": "2026-11-29T11:00:00+01:00"}
    found = alerts_in(json.dumps({**twice, "alerts": [*twice["alerts"], later]}).encode())
    assert [alert.name for alert in found] == ["TextClassifierAccuracyLow"] * 2
    assert found[0].key != found[1].key
    assert found[0].sentence.endswith("10:00 UTC: Accuracy is under 85%.")


def test_a_storm_of_alerts_is_a_cause_that_a_process_takes(opened: Open) -> None:
    storm, one = webhook(), webhook()["alerts"][0]
    one["annotations"]["summary"] = "a\0b {{x}} python3 " + "long " * 90
    storm["alerts"] = [{**one, "startsAt": f"2026-11-29T{n // 60:02}:{n % 60:02}:00Z"} for n in range(1000)]
    state = opened()
    assert state.take(alerts_in(json.dumps(storm).encode()), NOW).outcome is Outcome.STARTED
    run = state.next_run(NOW)
    assert run and run.cause.endswith("and 990 more alerts")
    printed = subprocess.run([sys.executable, "-c", "import sys; print(sys.argv[1])", run.cause], capture_output=True)
    assert printed.stdout.decode().strip() == run.cause and "python3" not in run.cause and "{{" not in run.cause


def test_alerts_on_other_models_are_left_out() -> None:
    assert len(alerts_in(body(), "news")) == 1 and alerts_in(body(), "sentiment") == []
    unnamed = webhook()
    del unnamed["alerts"][0]["labels"]["model_name"]
    assert len(alerts_in(json.dumps(unnamed).encode(), "news")) == 1


@pytest.mark.parametrize(
    "changed",
    [{"version": "3"}, {"groupKey": ""}, {"alerts": {}}, {"alerts": [{}]}, {"started": "yesterday"},
     {"started": "2026-11-29T10:00:00"}, {"status": "pending"}, {"groupKey": None}],
)  # fmt: skip
def test_what_is_no_webhook_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="no webhook of Alertmanager"):
        alerts_in(body(**changed))


@pytest.mark.parametrize("sent", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": "4"}', b"[" * 100_000])
def test_what_is_not_even_json_is_refused(sent: bytes) -> None:
    with pytest.raises(BadRequest):
        alerts_in(sent)
