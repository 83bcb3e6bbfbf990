"""The figures of one model from its answers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support

from components.evaluation.predictions import NO_CLASS, Predictions
from components.evaluation.scores import ClassScore, Mistake, ModelScore
from components.training.export.reliability import (
    calibration_error,
    error_by_chance,
    reliability,
    reliability_by_class,
)

LEAST_PROBABILITY = 1e-7
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
EXAMPLES = 12
SHOWN_CHARACTERS = 300


def measure(given: Predictions, truth: NDArray[np.int64], labels: Sequence[str]) -> ModelScore:
    """Return the figures of a model.

    Args:
        given: its answers, at least one.
        truth: positions in `labels`, shape (rows,).
        labels: of the data set.
    """
    right = given.answers == truth
    low, high = accuracy_interval(right)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, given.answers, labels=range(len(labels)), zero_division=0.0
    )
    tested = support > 0  # a class without rows has no scores
    bins = reliability(given.confidence, right)
    known = given.answers != NO_CLASS
    by_class = reliability_by_class(given.confidence[known], given.answers[known], right[known], labels)
    return ModelScore(
        accuracy=float(right.mean()),
        accuracy_low=low,
        accuracy_high=high,
        macro_precision=float(precision[tested].mean()),
        macro_recall=float(recall[tested].mean()),
        macro_f1=float(f1[tested].mean()),
        log_loss=float(-np.log(np.maximum(given.truth_probability, LEAST_PROBABILITY)).mean()),
        calibration_error=calibration_error(bins),
        error_by_chance=error_by_chance(given.confidence),
        bins=bins,
        selective=selective(given.confidence, right),
        classes=[
            ClassScore(
                label,
                float(precision[i]),
                float(recall[i]),
                float(f1[i]),
                int(support[i]),
                calibration_error(by_class[label]),
            )
            for i, label in enumerate(labels)
        ],
        not_numbers=int((~given.numbers).sum()),
    )


def accuracy_interval(right: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the 95% interval of an accuracy (Wilson 1927)."""
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def selective(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return the accuracy of the rows with the highest confidence, for several shares of all rows."""
    ranked = right[np.argsort(-confidence, kind="stable")]
    return [(share, float(ranked[: max(1, round(share * len(ranked)))].mean())) for share in _SHARES]


def confusion_pairs(truth: NDArray[np.int64], answers: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Count the rows of each (true class, answer); most of a matrix of many classes would be zeros."""
    pairs, rows = np.unique(np.stack([truth, answers])[:, answers != NO_CLASS], axis=1, return_counts=True)
    return list(zip(*pairs.tolist(), rows.tolist(), strict=True))


def worst_mistakes(
    texts: Sequence[str], labels: Sequence[str], truth: NDArray[np.int64], given: Predictions
) -> list[Mistake]:
    """Return the wrong answers with the highest confidence."""
    wrong = np.flatnonzero((given.answers != truth) & (given.answers != NO_CLASS))
    wrong = wrong[np.argsort(-given.confidence[wrong], kind="stable")][:EXAMPLES]
    rows = zip(wrong.tolist(), truth[wrong].tolist(), given.answers[wrong].tolist(), strict=True)
    return [
        Mistake(texts[row][:SHOWN_CHARACTERS], labels[label], labels[answer], float(given.confidence[row]))
        for row, label, answer in rows
    ]
