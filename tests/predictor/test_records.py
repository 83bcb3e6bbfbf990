"""The records that the predictor writes and everybody reads."""

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.errors import InputError
from predictor.records import (
    Feedback,
    Prediction,
    feedback_of,
    folder_of,
    is_sampled,
    moment,
    prediction_of,
    text_hash,
    text_id,
    timestamp,
)

GOOD = Prediction(
    "r1", "2026-11-29T21:46:21.123Z", "canary", "ab" * 32, "goal", text_hash("goal"), 4, None, "Sports", 0.75,
    {"Sports": 0.75, "World": 0.25}, "linear",
)  # fmt: skip


def test_a_record_is_read_as_it_was_written() -> None:
    assert prediction_of(asdict(GOOD)) == GOOD
    feedback = Feedback("r1", GOOD.time, "World", "reader")
    assert feedback_of(asdict(feedback)) == feedback


def test_a_field_that_is_not_known_yet_is_no_reason_to_refuse_a_record() -> None:
    assert prediction_of({**asdict(GOOD), "colour": "red"}) == GOOD


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None), ("time", "yesterday"), ("time", "2026-11-29T21:46:21"), ("text", 5), ("characters", -1),
        ("characters", True), ("tokens", "7"), ("confidence", float("nan")), ("confidence", 1.5), ("confidence", None),
        ("probabilities", {"Sports": None}), ("probabilities", [0.5]), ("stage", "oracle"), ("label", None),
    ],
)  # fmt: skip
def test_a_record_with_a_wrong_field_is_refused_by_its_name(field: str, value: Any) -> None:
    words = "ISO 8601|offset from UTC" if field == "time" else f"'{field}'"
    with pytest.raises(InputError, match=words):
        prediction_of({**asdict(GOOD), field: value})


def test_what_is_no_object_is_refused() -> None:
    others: list[object] = [None, [], "text", 5]
    for other in others:
        with pytest.raises(InputError, match="no JSON object"):
            feedback_of(other)


@given(st.integers(0, 4_102_444_800_000))
def test_a_time_stays_the_same_however_often_it_is_read(milliseconds: int) -> None:
    written = timestamp(milliseconds / 1000)
    assert timestamp(moment(written).timestamp()) == written
    assert moment(written) == datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


def test_times_are_in_utc_with_milliseconds_and_come_back_the_same() -> None:
    assert timestamp(0.0005) == "1970-01-01T00:00:00.000Z" and timestamp(1.25) == "1970-01-01T00:00:01.250Z"
    assert moment("2026-11-29T23:46:21.123+02:00") == moment(GOOD.time)
    assert moment(GOOD.time) == datetime(2026, 11, 29, 21, 46, 21, 123_000, UTC)


def test_only_the_texts_of_several_have_a_number() -> None:
    assert [text_id("a", 0, 1), text_id("a", 0, 2), text_id("a", 1, 2)] == ["a", "a/0", "a/1"]


def test_parts_lie_in_a_folder_a_day() -> None:
    folder = folder_of("s3://b/log/", "news", "feedback", date(2026, 1, 2))
    assert folder == "s3://b/log/news/feedback/date=2026-01-02"
    assert folder_of("log", "news", "predictions") == "log/news/predictions"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_sample_has_its_share_of_the_requests_and_always_the_same_ones(share: float) -> None:
    ids = [f"request {number}" for number in range(5000)]
    chosen = [is_sampled(name, share) for name in ids]
    assert chosen == [is_sampled(name, share) for name in ids]
    assert abs(sum(chosen) / len(ids) - share) <= 4 * (share * (1 - share) / len(ids)) ** 0.5  # four standard errors


def test_a_smaller_sample_is_a_part_of_a_larger_one() -> None:
    ids = [f"request {number}" for number in range(2000)]
    small, large = ({name for name in ids if is_sampled(name, share)} for share in (0.1, 0.3))
    assert small < large
