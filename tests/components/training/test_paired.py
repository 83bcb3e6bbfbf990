"""The interval of a paired difference holds what it promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from components.training.export.paired import paired_interval


def most_loss(lost: int, won: int, rows: int) -> float:
    return paired_interval(lost, won, rows)[1]


Z2 = float(norm.ppf(0.95)) ** 2


@pytest.mark.parametrize("rows", [10, 100, 2_703, 50_000])
def test_without_a_discordant_row_the_loss_may_still_be_some_rows(rows: int) -> None:
    assert most_loss(0, 0, rows) == pytest.approx(Z2 / (rows + Z2), rel=1e-6)


@pytest.mark.parametrize(("lost", "won"), [(0.02, 0.02), (0.002, 0.001), (0.0, 0.01), (0.05, 0.02)])
def test_the_interval_holds_the_true_loss_in_95_of_100_samples(lost: float, won: float) -> None:
    rows, missed = 1000, 0.0
    for losses in range(int(binom.ppf(1 - 1e-6, rows, lost)) + 1):
        wins_left = won / (1 - lost)
        for wins in range(int(binom.ppf(1 - 1e-6, rows - losses, wins_left)) + 1):
            if most_loss(losses, wins, rows) < lost - won:
                missed += binom.pmf(losses, rows, lost) * binom.pmf(wins, rows - losses, wins_left)
    assert missed <= 0.065  # the level is asymptotic


@given(st.integers(0, 50), st.integers(0, 50), st.integers(101, 5000))
def test_more_losses_or_fewer_wins_never_look_better(lost: int, won: int, rows: int) -> None:
    loss = most_loss(lost, won, rows)
    assert (lost - won) / rows <= loss <= 1
    assert most_loss(lost + 1, won, rows) >= loss >= most_loss(lost, won + 1, rows)


def test_all_may_be_lost() -> None:
    assert most_loss(5, 0, 5) == 1.0 and most_loss(0, 5, 5) < 0


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 300))
def test_the_interval_of_two_models_mirrors_that_of_the_two_swapped(one: int, other: int, alike: int) -> None:
    rows = max(1, one + other + alike)
    low, high = paired_interval(one, other, rows)
    assert -1 <= low <= (one - other) / rows <= high <= 1
    assert paired_interval(other, one, rows) == pytest.approx((-high, -low), abs=1e-6)
