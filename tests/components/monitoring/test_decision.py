"""What a round does next, whatever was seen and whatever was trained before."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.monitoring.decision import (
    CLOSED,
    FAILED,
    LABEL,
    PASSED,
    RETRAIN,
    STARTED,
    STOP,
    SUBMITTED,
    Guards,
    Seen,
    Training,
    decide,
    seen_in,
)
from predictor.errors import InputError

NOW, HOUR, DAY = 1_000_000_000.0, 3600.0, 86400.0
CALM, SHIFTED = Seen(500, False), Seen(500, True, ("topics have changed",))
GUARDS = Guards(cooldown_hours=24, min_new_rows=100, max_a_week=2)


def _trained(age: float, digest: str = "old", state: str = PASSED) -> Training:
    return Training(NOW - age, digest, state)


def test_a_calm_window_stops_whatever_labels_there_are() -> None:
    made = decide(CALM, 10_000, "new", [], GUARDS, NOW)
    assert made.answer == STOP and made.reasons == ["nothing drifted, and accuracy is not shown to have fallen"]
    assert decide(Seen(0, False), 10_000, "new", [], GUARDS, NOW).reasons == ["the window has no rows"]


def test_a_shift_retrains_where_there_are_labels_and_asks_for_them_where_not() -> None:
    made = decide(SHIFTED, 100, "new", [], GUARDS, NOW)
    assert (made.answer, made.new_rows, made.digest) == (RETRAIN, 100, "new")
    assert made.reasons == ["topics have changed", "there are 100 new labelled rows"]
    asked = decide(SHIFTED, 99, "new", [], GUARDS, NOW)
    assert asked.answer == LABEL
    assert asked.reasons == ["there are 99 new labelled rows, and retraining needs 100", "topics have changed"]


def test_without_a_single_new_row_nothing_is_trained_though_no_guard_asks_for_any() -> None:
    assert decide(SHIFTED, 0, "new", [], Guards(min_new_rows=0), NOW).answer == LABEL


def test_an_alert_is_a_cause_by_itself() -> None:
    made = decide(CALM, 100, "new", [], GUARDS, NOW, "the alert AccuracyLow fires")
    assert made.answer == RETRAIN and made.reasons[0] == "the alert AccuracyLow fires"


@pytest.mark.parametrize("state", [STARTED, SUBMITTED, PASSED, CLOSED, FAILED])
def test_a_training_is_followed_by_a_cool_down_however_it_ended(state: str) -> None:
    assert decide(SHIFTED, 500, "new", [_trained(24 * HOUR - 1, state=state)], GUARDS, NOW).answer == STOP
    assert decide(SHIFTED, 500, "new", [_trained(24 * HOUR, state=state)], GUARDS, NOW).answer == RETRAIN


def test_so_many_trainings_a_week_and_no_more() -> None:
    past = [_trained(2 * DAY), _trained(6.9 * DAY)]
    made = decide(SHIFTED, 500, "new", past, GUARDS, NOW)
    assert made.answer == STOP and made.reasons[0] == "2 trainings began within seven days, and 2 may"
    assert decide(SHIFTED, 500, "new", [_trained(2 * DAY), _trained(7.1 * DAY)], GUARDS, NOW).answer == RETRAIN


@pytest.mark.parametrize(
    ("states", "answer"),
    [([PASSED], LABEL), ([CLOSED], LABEL), ([SUBMITTED], LABEL), ([FAILED], RETRAIN), ([STARTED], RETRAIN),
     ([STARTED, FAILED], LABEL)],
)  # fmt: skip
def test_the_same_rows_are_trained_on_once_and_again_if_it_broke(states: list[str], answer: str) -> None:
    past = [_trained((20 + n) * DAY, "same", state) for n, state in enumerate(states)]
    assert decide(SHIFTED, 500, "same", past, GUARDS, NOW).answer == answer
    assert decide(SHIFTED, 500, "other", past, GUARDS, NOW).answer == RETRAIN


def test_a_clock_that_was_set_back_holds_nothing_up_for_long() -> None:
    assert decide(SHIFTED, 500, "new", [Training(NOW + 300 * DAY, "old")], GUARDS, NOW).answer == RETRAIN
    assert decide(SHIFTED, 500, "new", [Training(NOW + HOUR, "old")], GUARDS, NOW).answer == STOP


@given(
    ages=st.lists(st.floats(-10 * DAY, 30 * DAY), max_size=6),
    rows=st.integers(0, 1000),
    drifted=st.booleans(),
    alert=st.sampled_from(["", "an alert"]),
)
def test_no_history_makes_it_spin(ages: list[float], rows: int, drifted: bool, alert: str) -> None:
    past = [_trained(age) for age in ages]
    made = decide(Seen(9, drifted), rows, "new", past, GUARDS, NOW, alert)
    assert made.reasons
    if made.answer == RETRAIN:
        assert (drifted or alert) and rows >= 100
        assert sum(abs(age) < 7 * DAY for age in ages) < 2 and all(abs(age) >= DAY for age in ages)


def test_guards_are_named_and_checked() -> None:
    assert Guards.named({"min_new_rows": "250"}) == Guards(min_new_rows=250)
    for wrong in ({"cool_down": 1.0}, {"max_a_week": -1}, {"min_new_rows": "many"}, {"cooldown_hours": float("nan")}):
        with pytest.raises(InputError):
            Guards.named(wrong)


@pytest.mark.parametrize("wrong", [{}, {"window": {"rows": 1}, "drifted": "no", "reasons": []}, {"window": None}])
def test_what_is_no_verdict_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        seen_in(wrong)


def test_a_verdict_is_read_and_a_decision_written(tmp_path: Path) -> None:
    seen = seen_in({"window": {"rows": 7}, "drifted": True, "reasons": ["why"]})
    assert seen == Seen(7, True, ("why",))
    decide(seen, 3, "d", [], GUARDS, NOW).save(tmp_path / "decision.json")
    assert json.loads((tmp_path / "decision.json").read_text())["answer"] == LABEL
