"""What a multi-label model is served with: a temperature, a threshold for each label, and the choice of a precision."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from components.training.export.calibration import BOUNDS
from components.training.export.choice import Comparison, comparison
from predictor.model.calibration import decided, sigmoid

Probabilities = NDArray[np.float32]
USUAL_THRESHOLD = 0.5
LEAST_ROWS = 10
"""Rows with a label, and without it, from which on its threshold is chosen: of fewer it would be chance."""


@dataclass(frozen=True)
class Thresholds:
    """From which probability on a text has each label."""

    values: NDArray[np.float32]
    """Shape (labels,)."""
    usual: list[str]
    """Labels with too few rows, which have the usual threshold."""

    def named(self, labels: list[str]) -> dict[str, float]:
        """Return them by label."""
        return dict(zip(labels, map(float, self.values), strict=True))

    @property
    def sentence(self) -> str:
        """What a person who watches should know."""
        few = f"; {USUAL_THRESHOLD:g} for {', '.join(self.usual[:10])}" if self.usual else ""
        more = f" and {len(self.usual) - 10:,} more" if len(self.usual) > 10 else ""
        why = f", of which fewer than {LEAST_ROWS} validation rows have or lack the label" if self.usual else ""
        return f"a threshold for each of {len(self.values)} labels, where its F1 is highest{few}{more}{why}"


def fit_sigmoid_temperature(logits: NDArray[np.float32], has: NDArray[np.bool_]) -> float:
    """Return the temperature, 0.001 to 1,000, that minimises binary cross-entropy over all labels.

    As temperature scaling of a softmax (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2), with
    the targets of Platt 1999, "Probabilistic Outputs for Support Vector Machines": not 1 and 0 but a little inside, or
    the temperature of a model that has all rows right would fall without end.

    Args:
        logits: shape (rows, labels).
        has: whether each row has each label, of the same shape.
    """
    scores = logits.astype(np.float64)
    yes, no = int(has.sum()), int((~has).sum())
    wanted = np.where(has, (yes + 1) / (yes + 2), 1 / (no + 2))

    def loss(log_temperature: float) -> float:
        scaled = scores * np.exp(-log_temperature)
        return float((np.logaddexp(0, scaled) - wanted * scaled).mean())

    found = minimize_scalar(loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-5})
    return float(f"{np.exp(found.x):.4g}")


def fit_thresholds(rows: Probabilities, has: NDArray[np.bool_], labels: list[str]) -> Thresholds:
    """Return for each label the threshold with the highest F1 on these rows; of several, the one nearest to a half.

    It lies half-way between two probabilities that were seen. Method: Z. C. Lipton, C. Elkan and B. Narayanaswamy,
    "Optimal Thresholding of Classifiers to Maximize F1 Measure", ECML PKDD 2014; a threshold by label is also the one
    that maximises macro F1.

    Args:
        rows: calibrated probabilities, shape (rows, labels).
        has: whether each row has each label, of the same shape.
        labels: their names.
    """
    found = np.full(len(labels), USUAL_THRESHOLD, dtype=np.float32)
    usual = []
    for label, (scores, mine) in enumerate(zip(rows.T, has.T, strict=True)):
        if min(int(mine.sum()), int((~mine).sum())) < LEAST_ROWS:
            usual.append(labels[label])
        else:
            found[label] = _best_threshold(scores, mine)
    return Thresholds(found, usual)


def _best_threshold(scores: NDArray[np.float32], mine: NDArray[np.bool_]) -> float:
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order].astype(np.float64), np.cumsum(mine[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + mine.sum())
    # A threshold cannot part rows of one probability.
    ends = np.append(ranked[:-1] > ranked[1:], True)
    between = np.append((ranked[:-1] + ranked[1:]) / 2, ranked[-1] / 2)
    best = np.flatnonzero(ends & (f1 >= f1[ends].max() - 1e-12))
    return float(between[best[np.abs(between[best] - USUAL_THRESHOLD).argmin()]])


def compare_sets(
    fp32: NDArray[np.float32], int8: NDArray[np.float32], has: NDArray[np.bool_], temperature: float
) -> Comparison:
    """Compare two precisions of a multi-label model on the same rows.

    A row is right where all its labels are, with a label from a probability of a half on: what the thresholds will be
    depends on the precision. The agreement is that of all decisions about labels. The probability of a set of labels is
    the product over labels, which are taken as independent.

    Args:
        fp32: logits, shape (rows, labels).
        int8: likewise.
        has: whether the first rows have each label, shape (labelled, labels).
        temperature: what makes fp32's probabilities honest.
    """
    before, after = sigmoid(fp32, temperature), sigmoid(int8, temperature)
    usual = np.full(fp32.shape[1], USUAL_THRESHOLD, dtype=np.float32)
    one, other = decided(before, usual), decided(after, usual)
    labelled = len(has)
    right, right_too = (one[:labelled] == has).all(axis=1), (other[:labelled] == has).all(axis=1)
    of_one, of_other = (np.where(answer, before, 1 - before).prod(axis=1)[labelled:] for answer in (one, other))
    return comparison(right, right_too, (one == other).mean(axis=1), of_one - of_other, np.abs(before - after))
