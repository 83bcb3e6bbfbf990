"""A window of a prediction log: which records of it count."""

from datetime import datetime
from pathlib import Path

import pytest

from components.monitoring.drift.rows import Window
from components.monitoring.drift.windows import instant, logged
from predictor.errors import InputError
from tests.components.monitoring.records import BUNDLE, DAY, feedback, part, prediction

SINCE, UNTIL = instant(f"{DAY}T12:00:00Z"), instant(f"{DAY}T13:00:00Z")


def read(log: Path, since: datetime = SINCE, until: datetime = UNTIL) -> Window:
    return logged(str(log), "news", BUNDLE, since, until)


def test_records_of_this_bundle_and_span_count_once(tmp_path: Path) -> None:
    part(tmp_path, "predictions", "a", [prediction(1), prediction(0, text=None), prediction(2, bundle="c" * 64)])
    part(tmp_path, "predictions", "b", [prediction(1), prediction(3, time=f"{DAY}T14:00:00.000Z"), {"id": 7}])
    found = read(tmp_path)
    assert list(found.ids) == ["r0", "r1"] and list(found.texts) == [None, "text 1"]
    assert (found.since, found.until) == (f"{DAY}T12:00:00.000Z", f"{DAY}T12:01:00.000Z")
    assert found.left_out == {"of another bundle": 1, "written twice": 1, "lines that are no records": 1}


def test_true_labels_stand_beside_the_answers_they_are_for(tmp_path: Path) -> None:
    part(tmp_path, "predictions", "a", [prediction(0), prediction(1), prediction(2, bundle="c" * 64)])
    rows = [feedback(0, "Sports", 1), feedback(0, "World", 5), feedback(2, "World"), feedback(77, "World")]
    part(tmp_path, "feedback", "a", rows)
    found = read(tmp_path)
    assert list(found.labelled) == [("Sports", "World")]
    assert found.left_out["feedback given again"] == found.left_out["feedback for an unknown id"] == 1


def test_nothing_of_this_bundle_is_an_error_that_says_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no records at all"):
        read(tmp_path / "none")
    part(tmp_path, "predictions", "a", [prediction(1, bundle="c" * 64)])
    with pytest.raises(InputError, match=r"1 of another bundle\): look at the address"):
        read(tmp_path)
    nobody_asked = logged(str(tmp_path), "news", BUNDLE, SINCE, UNTIL, idle=True)
    assert len(nobody_asked) == 0 and nobody_asked.since == f"{DAY}T12:00:00.000Z"


def test_a_model_that_never_had_a_log_beside_others_is_a_wrong_name(tmp_path: Path) -> None:
    quiet = logged(str(tmp_path), "classifier", BUNDLE, SINCE, UNTIL, idle=True)
    assert len(quiet) == 0  # nothing was ever logged here
    part(tmp_path, "predictions", "a", [prediction(1)])
    with pytest.raises(InputError, match=r"has no log of a model classifier, but of news: give the name under which"):
        logged(str(tmp_path), "classifier", BUNDLE, SINCE, UNTIL, idle=True)
