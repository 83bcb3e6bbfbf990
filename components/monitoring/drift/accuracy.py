"""How often the model is right now: counted on feedback, and estimated where nobody says what is true."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, fisher_exact
from sklearn.isotonic import IsotonicRegression

LEAST_LABELS = 100
"""True labels under which nothing is decided."""
LARGEST_DROP = 0.05
"""Of the accuracy, as a share of 1."""
LEVEL = 0.01
"""Chance that equal models look worse."""
_DRAWS = 200
_STEPS = 50
_MOST_CLASSES = 50
"""With more, single classes have too few rows of the reference to estimate their shares."""
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Baseline:
    """How often the model was right before it went into service."""

    accuracy: float
    rows: int


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers with its 95% interval, compared with the baseline."""

    value: float
    low: float
    high: float
    rows: int
    p_value: float | None
    """Of being worse than the baseline; None where no test was made."""
    drifted: bool
    note: str


def from_feedback(answers: Sequence[str], truth: Sequence[str], baseline: Baseline) -> Accuracy:
    """Return the accuracy on texts whose true label came back.

    It has dropped if there are at least 100 labels, it is over 5 points under the baseline, and Fisher's exact test
    says that it is worse.

    Args:
        answers: the model's labels, at least one.
        truth: the true ones; one that the model does not know makes the answer wrong.
        baseline: what it is compared with.
    """
    rows = len(truth)
    right = sum(answer == label for answer, label in zip(answers, truth, strict=True))
    low, high = binomtest(right, rows).proportion_ci(_CONFIDENCE, method="wilson")
    value = right / rows
    if rows < LEAST_LABELS:
        note = f"{rows} labels are too few to decide: {LEAST_LABELS} are needed"
        return Accuracy(value, float(low), float(high), rows, None, False, note)
    before = round(baseline.accuracy * baseline.rows)
    table = [[right, rows - right], [before, baseline.rows - before]]
    p_value = float(fisher_exact(table, alternative="less").pvalue)
    drifted = baseline.accuracy - value > LARGEST_DROP and p_value <= LEVEL
    note = f"{value:.1%} of {rows:,} labels, {baseline.accuracy:.1%} before (p = {p_value:.2g})"
    return Accuracy(value, float(low), float(high), rows, p_value, drifted, note)


@dataclass(frozen=True)
class Scored:
    """Answers of a model: labels by name and confidences, one element a text."""

    answers: Sequence[str]
    confidence: NDArray[np.float64]


def estimated(reference: Scored, truth: Sequence[str], window: Scored, baseline: Baseline, seed: int = 0) -> Accuracy:
    """Return an estimate of the accuracy without labels.

    Method: confidence-based performance estimation (CBPE, of NannyML): the mean of the calibrated confidence. Isotonic
    regression calibrates it on the reference, whose rows are weighted so that its true classes have the shares that
    they most likely have in the window (Lipton et al. 2018, "Detecting and Correcting for Label Shift with Black Box
    Predictors"). Labels are compared by name. The interval is a bootstrap of both, with the chance of each answer.

    It holds where texts of a class are as they were: after a shift of the mix, not where texts are of a new class or
    the model is sure of wrong answers.

    Args:
        reference: answers whose truth is known.
        truth: the true labels of the reference.
        window: answers without truth.
        baseline: what it is compared with.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    coded = _coded(reference, truth, window)
    everything = np.arange(len(coded.known)), np.arange(len(coded.seen))
    value = float(_chances(coded, *everything).mean())
    draws = []
    for _ in range(_DRAWS):
        chances = _chances(coded, *(random.integers(0, len(places), len(places)) for places in everything))
        draws.append((random.random(len(chances)) < chances).mean())
    low, high = np.quantile(draws, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    drifted = bool(baseline.accuracy - high > LARGEST_DROP)
    note = f"estimated from the confidence of {len(window.answers):,} answers, which knows of no new class"
    return Accuracy(value, float(low), float(high), len(window.answers), None, drifted, note)


def expected_accuracy(reference: Scored, truth: Sequence[str], window: Scored) -> float:
    """Return the value of `estimated` without its interval."""
    coded = _coded(reference, truth, window)
    return float(_chances(coded, np.arange(len(coded.known)), np.arange(len(coded.seen))).mean())


@dataclass(frozen=True)
class _Coded:
    """Labels as numbers: of the reference's answers and truth, and of the window's answers; and the confidences."""

    known: NDArray[np.int64]
    truth: NDArray[np.int64]
    confidence: NDArray[np.float64]
    seen: NDArray[np.int64]
    seen_confidence: NDArray[np.float64]
    labels: int


def _coded(reference: Scored, truth: Sequence[str], window: Scored) -> _Coded:
    numbers = {label: place for place, label in enumerate(sorted({*reference.answers, *truth, *window.answers}))}
    sides = (np.array([numbers[label] for label in side]) for side in (reference.answers, truth, window.answers))
    known, true, seen = sides
    return _Coded(known, true, reference.confidence, seen, window.confidence, len(numbers))


def _chances(coded: _Coded, rows: NDArray[np.int64], texts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the chance of each answer of the window to be right; shape (texts,).

    Args:
        coded: answers and truth.
        rows: those of the reference that calibrate.
        texts: those of the window that are wanted.
    """
    known, truth = coded.known[rows], coded.truth[rows]
    calibration = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    weights = _weights(known, truth, coded.seen[texts], coded.labels)
    calibration.fit(coded.confidence[rows], (known == truth).astype(np.float64), sample_weight=weights)
    chances: NDArray[np.float64] = calibration.predict(coded.seen_confidence[texts])
    return chances


def _weights(
    known: NDArray[np.int64], truth: NDArray[np.int64], seen: NDArray[np.int64], labels: int
) -> NDArray[np.float64]:  # fmt: skip
    """Return a weight for each row of the reference: the share of its class in the window over that in the reference.

    The shares are those that make the answers' shares most likely, given how answers spread for each true class.
    """
    if labels > _MOST_CLASSES:
        return np.ones(len(known))
    spread = np.full((labels, labels), 1e-3)
    np.add.at(spread, (known, truth), 1.0)
    spread /= spread.sum(axis=0)
    before = np.bincount(truth, minlength=labels) / len(truth)
    observed = np.bincount(seen, minlength=labels) / len(seen)
    shares = before.copy()
    for _ in range(_STEPS):  # expectation maximisation: shares stay shares, whatever the counts are
        shares = shares * (spread.T @ (observed / np.maximum(spread @ shares, 1e-12)))
    # One that is nearly 0 would leave a class out of the calibration.
    ratio: NDArray[np.float64] = np.clip(shares / np.maximum(before, 1e-12), 1e-3, None)[truth]
    return ratio
