"""Tests of two sets of rows: how often they are wrong where nothing changed, and what they find where it did."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import PermutationMethod, anderson_ksamp, ks_2samp

from components.monitoring.drift.features import embedding, traits
from components.monitoring.drift.two_sample import Shift, classifier_test, mmd_test, most_apart, spread_test

REFERENCE, WINDOW = 120, 60


def by_classifier(random: np.random.Generator, shift: float, seed: int) -> Shift:
    """Thirty traits that a third of the rows have; a third of the window has ten more often, as `shift` says."""
    rows = random.random((REFERENCE + WINDOW, 30)) < 0.3
    new = random.random((WINDOW, 10)) < shift
    new[WINDOW // 3 :] = False
    rows[REFERENCE:, :10] |= new
    return classifier_test(csr_matrix(rows.astype(float)), REFERENCE, seed)


def by_mmd(random: np.random.Generator, shift: float, seed: int) -> Shift:
    rows = random.standard_normal((REFERENCE + WINDOW, 8))
    rows[REFERENCE:, 0] += 2 * shift
    return mmd_test(rows, REFERENCE, seed)


def by_spread(random: np.random.Generator, shift: float, seed: int) -> Shift:
    values = random.integers(0, 30, REFERENCE + WINDOW) + 10.0 * shift * (np.arange(REFERENCE + WINDOW) >= REFERENCE)
    return Shift(*spread_test(values[:REFERENCE], values[REFERENCE:], seed), values)


TESTS = pytest.mark.parametrize("test", [by_classifier, by_mmd, by_spread])
Test = Callable[[np.random.Generator, float, int], Shift]


@TESTS
def test_where_nothing_changed_p_values_are_even(test: Test) -> None:
    random = np.random.default_rng(0)
    found = [test(random, 0.0, seed).p_value for seed in range(40)]
    assert np.mean(np.array(found) <= 0.05) < 0.16
    assert 0.3 < np.median(found) < 0.8  # equal scores make it cautious


def test_texts_that_come_again_and_again_are_no_shift() -> None:
    random = np.random.default_rng(0)
    rows = (csr_matrix(np.eye(2)[random.integers(0, 2, 300)]) for _ in range(40))
    assert np.mean(np.array([classifier_test(traits, 200).p_value for traits in rows]) <= 0.1) < 0.2


def test_rounding_is_no_shift() -> None:
    for number in range(20):
        assert mmd_test(np.full((450 + number, 8), 0.3), 300).p_value == 1.0


@TESTS
def test_a_shift_is_found_and_measured(test: Test) -> None:
    found = test(np.random.default_rng(1), 1.0, 0)
    assert found.p_value == pytest.approx(1 / 2000)  # no permutation was as extreme
    assert 0.2 < found.size < 1
    assert found.unlike[REFERENCE:].mean() > found.unlike[:REFERENCE].mean()


@pytest.mark.filterwarnings("ignore:Parameter .variant.:UserWarning")
def test_the_spread_is_anderson_and_darlings() -> None:
    # scipy's p-value comes from a table that ends at 0.001 and 0.25.
    random = np.random.default_rng(3)
    for shift in (2.0, 4.0, 6.0):
        before = random.integers(0, 30, 150).astype(np.float64)
        now = random.integers(0, 30, 80).astype(np.float64) + shift
        expected = anderson_ksamp([before, now], method=PermutationMethod(n_resamples=999, rng=1)).pvalue
        assert spread_test(before, now)[1] == pytest.approx(
            expected, abs=0.02 + 0.3 * expected
        )  # few are drawn where p is large
    assert spread_test(np.ones(50), np.ones(60)) == (0.0, 1.0)


def test_the_size_is_kolmogorovs_statistic_in_one_direction() -> None:
    random = np.random.default_rng(2)
    scores = random.integers(0, 9, 100).astype(float)  # with ties
    scores[70:] += 1
    expected = ks_2samp(scores[:70], scores[70:], alternative="greater").statistic
    assert most_apart(scores, 70) == pytest.approx(expected)


def test_features_are_of_texts_in_any_script() -> None:
    english = ["the cat sat", "the dog ran home", "a cat ran", "dogs and cats", "home again"] * 4
    chinese = ["今天天气很好", "股市今天上涨", "球队赢得比赛", "天气预报有雨", "股票下跌"] * 4
    for texts in (english, chinese):
        assert embedding(texts, 4).shape == (20, 4)
        found = traits(texts, ["a", "b"] * 10, np.linspace(0.5, 1, 20))
        assert found.shape[1] > 12 and set(found.data) == {1.0}
        assert np.asarray(found.sum(axis=0)).min() == 2  # nothing that a single text has
