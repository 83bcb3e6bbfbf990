"""From logits to calibrated probabilities, and from those to the score of ordinal labels."""

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return calibrated probabilities, float32 of the same shape, each row summing to 1."""
    scaled = logits / np.float32(temperature)
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    result: NDArray[np.float32] = scaled / scaled.sum(axis=-1, keepdims=True)
    return result


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
