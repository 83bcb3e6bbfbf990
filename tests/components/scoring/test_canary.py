"""The test of labelled rows: how often it is wrong, and how many rows it needs."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from components.scoring.canary import MARGIN, Tally, baseline_of, log_evidence, shown_below
from predictor.model.bundle import Bundle
from predictor.model.classifier import Classifier

BASELINE = 0.9


def _first_stop(accuracy: float, rows: int, look: int, random: np.random.Generator) -> int | None:
    """Return after how many labelled rows a batch is paused, if it is; one looks after every `look` of them."""
    right = np.cumsum(random.random(rows) < accuracy)
    looks = range(look, rows + 1, look)
    return next((n for n in looks if shown_below(Tally(n, int(right[n - 1])), BASELINE)), None)


def test_the_evidence_is_the_mean_likelihood_ratio() -> None:
    floor, right, wrong = 0.85, 7, 5
    ratio = quad(lambda q: (q / floor) ** right * ((1 - q) / (1 - floor)) ** wrong, 0, floor)[0] / floor
    assert log_evidence(Tally(12, 7), floor) == pytest.approx(math.log(ratio))


def test_at_the_border_few_batches_are_paused_however_often_one_looks() -> None:
    random = np.random.default_rng(0)
    stops = [_first_stop(BASELINE - MARGIN, 1_000, 20, random) for _ in range(400)]
    assert sum(stop is not None for stop in stops) <= 0.05 * 400


def test_a_batch_that_is_a_little_worse_is_hardly_ever_paused() -> None:
    random = np.random.default_rng(1)
    assert sum(_first_stop(BASELINE - 0.02, 1_000, 20, random) is not None for _ in range(200)) <= 2


def test_a_batch_that_is_much_worse_is_paused_soon() -> None:
    random = np.random.default_rng(2)
    stops = [_first_stop(BASELINE - 0.2, 400, 10, random) for _ in range(200)]
    assert all(stops) and np.median([stop for stop in stops if stop]) <= 100


@pytest.mark.parametrize(("rows", "right"), [(0, 0), (3, 1), (5_000, 4_900)])
def test_few_rows_or_good_ones_show_nothing(rows: int, right: int) -> None:
    assert not shown_below(Tally(rows, right), BASELINE)


def test_a_perfect_or_a_useless_baseline_is_no_trap() -> None:
    assert shown_below(Tally(100, 50), 1.0) and not shown_below(Tally(100, 100), 1.0)
    assert not shown_below(Tally(100, 0), 0.02)


def test_the_baseline_is_the_bundles_test_accuracy(classifier: Classifier) -> None:
    spec: Bundle = classifier.bundle
    assert baseline_of(spec.spec) == spec.spec.metrics["test_accuracy"]
    older = spec.spec.model_copy(update={"metrics": {}})
    assert baseline_of(older) == spec.spec.baseline_accuracy
