"""Thresholds of label sets: the published quantile, and the coverage that it promises, by simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray

from components.training.export.coverage import fit_levels
from predictor.model.conformal import label_sets


def answers(rows: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities of five labels that are far from honest, and the truth."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, 5)) * 2
    truth = (logits + random.gumbel(size=(rows, 5))).argmax(axis=1)
    wrong = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
    return wrong.astype(np.float32), truth


def test_the_threshold_is_the_quantile_of_split_conformal_prediction() -> None:
    # Of 9 rows all ceil(10 * 0.9) = 9 true labels are in their sets; of 19, 18 are.
    for count, place in ((9, 9), (19, 18), (20, 19), (99, 90)):
        rows = np.linspace(0.01, 0.99, count, dtype=np.float32)
        pairs = np.stack([rows, 1 - rows], axis=1)
        (level,) = fit_levels(pairs, np.zeros(count, dtype=np.int64), [0.9]).levels
        assert level.threshold == np.sort(rows)[::-1][place - 1]


def test_levels_that_the_rows_cannot_guarantee_are_left_out() -> None:
    rows, truth = answers(99, 0)
    assert [len(fit_levels(rows[:n], truth[:n]).levels) for n in (8, 9, 18, 19, 98, 99)] == [0, 1, 1, 2, 2, 3]
    assert [level.coverage for level in fit_levels(rows, truth).levels] == [0.9, 0.95, 0.99]


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_sets_hold_the_truth_as_often_as_was_asked_whatever_the_model(level: float) -> None:
    covered, spread = [], []
    test, truth = answers(2000, 10_000)
    for seed in range(300):
        (found,) = fit_levels(*answers(60, seed), [level]).levels
        inside = test[np.arange(len(test)), truth] >= np.float32(found.threshold)
        covered.append(inside.mean())
        spread.append(found.low <= inside.mean() <= found.high)
    assert level - 0.005 <= np.mean(covered) <= level + 1 / 61 + 0.01
    assert 0.9 <= np.mean(spread) <= 0.99
    sets = label_sets(test, found.threshold)
    held = np.mean([label in one for label, one in zip(truth, sets, strict=True)])
    assert held >= covered[-1]  # a set without labels gets the best one
