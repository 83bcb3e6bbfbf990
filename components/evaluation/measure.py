"""The figures of one model from its answers."""

from collections.abc import Sequence
from typing import Any

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

_LEAST_PROBABILITY = 1e-7
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
    known = given.answers != NO_CLASS
    by_class = reliability_by_class(given.confidence[known], given.answers[known], right[known], labels)
    return model_score(
        labels,
        right,
        given.confidence,
        precision_recall_fscore_support(truth, given.answers, labels=range(len(labels)), zero_division=0.0),
        [calibration_error(by_class[label]) for label in labels],
        (given.confidence, right),
        given.truth_probability,
        given.numbers,
    )


def model_score(
    labels: Sequence[str],
    right: NDArray[np.bool_],
    confidence: NDArray[np.float32],
    by_class: Sequence[NDArray[Any]],
    errors: Sequence[float],
    decisions: tuple[NDArray[np.float32], NDArray[np.bool_]],
    truth_probability: NDArray[np.float32],
    numbers: NDArray[np.bool_],
) -> ModelScore:
    """Return the figures that models of both kinds have.

    Args:
        labels: of the data set.
        right: which rows are right.
        confidence: in each row's answer.
        by_class: precision, recall, F1 and rows of each label, as scikit-learn returns them.
        errors: calibration error of each label.
        decisions: what calibration is measured on: probabilities, and whether each decision is right.
        truth_probability: of what is true.
        numbers: which rows have probabilities that are finite.
    """
    precision, recall, f1, support = by_class
    tested = support > 0  # a class without rows has no scores
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")  # Wilson 1927
    bins = reliability(*decisions)
    return ModelScore(
        accuracy=float(right.mean()),
        accuracy_low=float(interval.low),
        accuracy_high=float(interval.high),
        macro_precision=float(precision[tested].mean()),
        macro_recall=float(recall[tested].mean()),
        macro_f1=float(f1[tested].mean()),
        log_loss=float(-np.log(np.maximum(truth_probability, _LEAST_PROBABILITY)).mean()),
        calibration_error=calibration_error(bins),
        error_by_chance=error_by_chance(decisions[0]),
        bins=bins,
        selective=_selective(confidence, right),
        classes=[
            ClassScore(label, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]), errors[i])
            for i, label in enumerate(labels)
        ],
        not_numbers=int((~numbers).sum()),
    )


def _selective(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> list[tuple[float, float]]:
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
