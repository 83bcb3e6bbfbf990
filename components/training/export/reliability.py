"""How far confidence can be believed: what the answers of one confidence had right."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

_Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence is above `above` and at most `up_to`, the first bin's lower end included."""

    above: float
    up_to: float
    rows: int
    confidence: float
    """Their mean confidence."""
    accuracy: float
    """The share that is right."""
    low: float
    """Lower end of the 95% Wilson interval of the accuracy."""
    high: float


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = 15) -> list[Bin]:
    """Return the bins of equal width that have rows, the least confident first: a reliability diagram.

    Method: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.

    Args:
        confidence: probabilities of the answers, shape (rows,). Rows whose probability is no finite number are left
            out.
        right: which answers are right, shape (rows,).
        bins: how many there are of 0 to 1.
    """
    known = np.isfinite(confidence)
    confidence, right = np.asarray(confidence, dtype=np.float64)[known], np.asarray(right)[known]
    places = _places(confidence, bins)
    counts = np.bincount(places, minlength=bins)
    sums = np.bincount(places, weights=confidence, minlength=bins)
    hits = np.bincount(places, weights=right, minlength=bins)
    found = []
    for place in np.flatnonzero(counts).tolist():
        rows, share = int(counts[place]), float(hits[place] / counts[place])
        low, high = _wilson(share, rows)
        found.append(Bin(place / bins, (place + 1) / bins, rows, float(sums[place] / rows), share, low, high))
    return found


def reliability_by_class(
    confidence: NDArray[np.floating], answers: NDArray[np.int64], right: NDArray[np.bool_], labels: Sequence[str],
    bins: int = 15,
) -> dict[str, list[Bin]]:  # fmt: skip
    """Return the bins of each class's answers; a class that is never the answer has none.

    Args:
        confidence: probabilities of the answers, shape (rows,).
        answers: class ids of the answers, shape (rows,).
        right: which answers are right, shape (rows,).
        labels: names of the classes.
        bins: how many there are of 0 to 1.
    """
    order = np.argsort(answers, kind="stable")
    ends = np.searchsorted(answers[order], np.arange(len(labels) + 1))
    parts = [order[start:end] for start, end in pairwise(ends)]
    return {label: reliability(confidence[rows], right[rows], bins) for label, rows in zip(labels, parts, strict=True)}


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error in [0, 1]: the mean gap of confidence and accuracy, weighted by rows.

    It is above 0 for an honest model, too, since a few rows of a bin are right more or less often by chance.
    """
    rows = sum(each.rows for each in bins)
    return sum(each.rows * abs(each.confidence - each.accuracy) for each in bins) / rows if rows else 0.0


def error_by_chance(confidence: NDArray[np.floating], bins: int = 15, draws: int = 200, seed: int = 0) -> float:
    """Return the calibration error that a model whose confidences are all true exceeds once in twenty.

    With few rows the error is far from 0 even then. Method: consistency resampling, Bröcker and Smith 2007, "Increasing
    the Reliability of Reliability Diagrams": whether each answer is right is drawn from its confidence.

    Args:
        confidence: probabilities of the answers, shape (rows,), finite.
        bins: as for `reliability`.
        draws: how often.
        seed: fixes the draws.
    """
    if not len(confidence):
        return 0.0
    sure = np.asarray(confidence, dtype=np.float64)
    places = _places(sure, bins)
    expected = np.bincount(places, weights=sure, minlength=bins)
    random = np.random.default_rng(seed)
    errors = []
    for _ in range(draws):
        hits = np.bincount(places, weights=random.random(len(sure)) < sure, minlength=bins)
        errors.append(float(np.abs(expected - hits).sum()) / len(sure))
    return float(np.quantile(errors, 0.95))


def _places(confidence: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """Return the bin of each confidence."""
    places: NDArray[np.int64] = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return places


def _wilson(share: float, rows: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson 1927)."""
    middle = (share + _Z**2 / (2 * rows)) / (1 + _Z**2 / rows)
    reach = _Z / (1 + _Z**2 / rows) * float(np.sqrt(share * (1 - share) / rows + _Z**2 / (4 * rows**2)))
    # Rounding must not put a share of 0 or 1 outside its interval.
    return max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach))
