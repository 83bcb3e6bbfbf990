"""From logits to calibrated probabilities, and from those to the labels of a text or the score of ordinal labels."""

from collections.abc import Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from predictor.label_sets import joined


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return calibrated probabilities, float32 of the same shape, each row summing to 1."""
    scaled = logits / np.float32(temperature)
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    result: NDArray[np.float32] = scaled / scaled.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return calibrated probabilities of a multi-label model, float32 of the same shape, each label by itself."""
    scaled = (logits / np.float32(temperature)).clip(-80, 80)  # beyond, the exponential is no number
    result: NDArray[np.float32] = np.float32(1) / (np.float32(1) + np.exp(-scaled))
    return result


def decided(rows: NDArray[np.float32], thresholds: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which labels each text of a multi-label model has, those at or over their threshold, as (texts, labels).

    Args:
        rows: probabilities, shape (texts, labels).
        thresholds: the least probability of each label, shape (labels,).
    """
    return np.asarray(rows >= thresholds)


def sureness(rows: NDArray[np.float32], thresholds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability that each decision about a label is right, of shape (texts, labels).

    Args:
        rows: probabilities, shape (texts, labels).
        thresholds: the least probability of each label, shape (labels,).
    """
    sure: NDArray[np.float32] = np.where(decided(rows, thresholds), rows, np.float32(1) - rows)
    return sure


def least_sure(rows: NDArray[np.float32], thresholds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the confidence of a text's labels: the probability that the least sure decision about a label is right.

    A text is as doubtful as its most doubtful label. Of a label under a threshold of less than a half it may be less
    than a half, too, as max(p, 1 - p) never is.

    Args:
        rows: probabilities, shape (texts, labels).
        thresholds: the least probability of each label, shape (labels,).
    """
    least: NDArray[np.float32] = sureness(rows, thresholds).min(axis=1)
    return least


def ranked(rows: NDArray[np.float32], thresholds: NDArray[np.float32]) -> list[list[int]]:
    """Return the labels that each text of a multi-label model has, as positions, the most probable first.

    Args:
        rows: probabilities, shape (texts, labels).
        thresholds: the least probability of each label, shape (labels,).
    """
    has = decided(rows, thresholds)
    found = []
    for row, mine in zip(rows, has, strict=True):
        inside = np.flatnonzero(mine)
        found.append([int(place) for place in inside[np.argsort(-row[inside], kind="stable")]])
    return found


def answer_of(
    rows: NDArray[np.float32], labels: Sequence[str], thresholds: NDArray[np.float32] | None
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the label of each text and its confidence; of a multi-label model its labels, joined by `|`, in order.

    Args:
        rows: probabilities, shape (texts, labels).
        labels: their names.
        thresholds: of a multi-label model, the least probability of each label; None where a text has one label.
    """
    if thresholds is None:
        return [labels[place] for place in rows.argmax(axis=1).tolist()], rows.max(axis=1)
    has = decided(rows, thresholds).tolist()
    return [joined(compress(labels, mine)) for mine in has], least_sure(rows, thresholds)


def ordinal_scores(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return where each text stands between the lowest label, -1, and the highest, 1: the mean over probabilities.

    The labels stand at equal distances: three at -1, 0 and 1, two at -1 and 1.

    Args:
        rows: calibrated probabilities of shape (texts, labels), the labels from the lowest to the highest, at least 2.

    Returns:
        Scores of shape (texts,), each the same alone and in any company: labels are added up one after the other.
    """
    scores = np.zeros(len(rows), dtype=np.float64)
    for place, column in zip(np.linspace(-1.0, 1.0, rows.shape[1]), rows.T, strict=True):
        scores += place * column.astype(np.float64)
    return scores.clip(-1.0, 1.0).astype(np.float32)
