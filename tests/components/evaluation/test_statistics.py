import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.statistics import Paired, holm, p_below
from components.training.export.reliability import calibration_error, error_by_chance, reliability


def test_mcnemar_agrees_with_a_published_example() -> None:
    # Agresti 2013, Categorical Data Analysis, table 11.1: 150 and 86 of 1,600 voters changed their mind; z = 4.17
    # squared is McNemar's statistic, and the interval of the difference is 0.02 to 0.06 at 95%.
    pair = Paired(1600, 150, 86)
    assert pair.p_better() == pytest.approx(1.9e-5, rel=0.1)
    assert pair.p_worse() > 0.999
    low, high = pair.interval()
    assert (low, high) == pytest.approx((0.0242, 0.0558), abs=5e-4)  # one-sided at 95%: two-sided at 90%


def test_models_that_differ_on_no_row_show_nothing() -> None:
    pair = Paired(100, 0, 0)
    assert pair.p_better() == pair.p_worse() == 1 and pair.interval()[0] < 0 < pair.interval()[1]


def test_the_smallest_difference_is_seen_four_times_in_five() -> None:
    random = np.random.default_rng(0)
    rows, disagreement = 2000, 0.08
    gain = Paired(rows, 80, 80).smallest_difference()
    seen = 0
    for _ in range(400):
        better, worse, _ = random.multinomial(
            rows, [(disagreement + gain) / 2, (disagreement - gain) / 2, 1 - disagreement]
        )
        seen += Paired(rows, int(better), int(worse)).p_better() < 0.05
    assert 0.7 < seen / 400 < 0.88  # the exact test is a little conservative


def test_holm_agrees_with_a_published_example() -> None:
    # Wright 1992, "Adjusted p-values for simultaneous inference", as R's p.adjust(method = "holm") gives them.
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.5, 0.001]) == pytest.approx([0.5, 0.002])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_keeps_the_order_and_never_lowers_a_p_value(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(new >= old for new, old in zip(adjusted, p, strict=True)) and all(value <= 1 for value in adjusted)
    assert all(adjusted[i] <= adjusted[j] for i in range(len(p)) for j in range(len(p)) if p[i] < p[j])


def test_a_floor_is_shown_to_be_missed_only_by_enough_rows() -> None:
    assert p_below(0, 2, 0.2) == pytest.approx(0.64)
    assert p_below(0, 20, 0.2) == pytest.approx(0.8**20)
    assert p_below(0, 0, 0.2) == 1


def test_confidences_that_are_true_seldom_exceed_what_chance_explains() -> None:
    random = np.random.default_rng(1)
    over = 0
    for draw in range(100):
        sure = random.uniform(0.5, 1, 300)
        right = random.random(300) < sure
        over += calibration_error(reliability(sure, right)) > error_by_chance(sure, seed=draw)
    assert over <= 12
    few, more = error_by_chance(np.full(50, 0.9)), error_by_chance(np.full(5000, 0.9))
    assert few > 5 * more > 0 and error_by_chance(np.array([])) == 0
