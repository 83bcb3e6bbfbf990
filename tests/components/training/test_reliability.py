"""Reliability bins, by the definition of Guo et al. 2017 and on cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from components.training.export.reliability import calibration_error, reliability, reliability_by_class


def test_the_definition_of_guo_et_al_on_a_case_worked_by_hand() -> None:
    # Their running example: 100 predictions with a confidence of 0.8 each should have 80 right; here 70 have, and of
    # 50 with 0.6, 35: ECE = 100/150 * |0.7 - 0.8| + 50/150 * |0.7 - 0.6| = 0.1.
    confidence = np.repeat([0.8, 0.6], [100, 50])
    right = np.concatenate([np.arange(100) < 70, np.arange(50) < 35])
    low, high = reliability(confidence, right, 10)
    assert (low.rows, high.rows) == (50, 100)
    assert (low.accuracy, high.accuracy) == (0.7, 0.7)
    assert calibration_error([low, high]) == pytest.approx(0.1)
    interval = binomtest(70, 100).proportion_ci(method="wilson")
    assert (high.low, high.high) == pytest.approx((interval.low, interval.high))


def test_a_bin_holds_its_upper_end_and_the_first_its_lower() -> None:
    # In the definition bin m has the confidences of ((m - 1) / M, m / M].
    bins = reliability(np.array([0.0, 0.25, 0.26, 0.5, 1.0]), np.array([True] * 5), 4)
    assert [(each.above, each.up_to, each.rows) for each in bins] == [(0, 0.25, 2), (0.25, 0.5, 2), (0.75, 1, 1)]


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1, max_size=60))
def test_bins_hold_all_rows_and_intervals_their_shares(rows: list[tuple[float, bool]]) -> None:
    confidence, right = np.array([row[0] for row in rows], dtype=np.float32), np.array([row[1] for row in rows])
    bins = reliability(confidence, right)
    assert sum(each.rows for each in bins) == len(rows)
    assert sum(each.rows * each.accuracy for each in bins) == pytest.approx(right.sum())
    assert all(each.low <= each.accuracy <= each.high for each in bins)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_interval_holds_its_share_at_the_ends_too(share: float) -> None:
    for rows in range(1, 200):
        (only,) = reliability(np.full(rows, 0.7), np.full(rows, share == 1.0))
        assert only.low <= only.accuracy == share <= only.high


def test_what_is_no_number_is_left_out_and_no_rows_have_no_bins() -> None:
    bins = reliability(np.array([np.nan, 0.5, np.inf]), np.array([True, True, False]))
    assert [each.rows for each in bins] == [1]
    assert reliability(np.array([]), np.array([], dtype=bool)) == [] and calibration_error([]) == 0.0


def test_each_class_has_the_bins_of_its_own_answers() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    answers, right = np.array([2, 0, 2, 0]), np.array([True, False, True, True])
    found = reliability_by_class(confidence, answers, right, ["a", "b", "c"], 2)
    assert {label: [(each.rows, each.accuracy) for each in bins] for label, bins in found.items()} == {
        "a": [(2, 0.5)], "b": [], "c": [(2, 1.0)]
    }  # fmt: skip
