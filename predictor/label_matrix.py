"""The labels of texts of multi-label data as a matrix, and back; apart from `label_sets`, which does without NumPy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from predictor.label_sets import joined, parted


def label_matrix(texts: Sequence[str], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Return which of the labels each text has, shape (texts, labels).

    Raises:
        KeyError: a text has another label.
    """
    place = {label: number for number, label in enumerate(labels)}
    has = np.zeros((len(texts), len(labels)), dtype=bool)
    for row, text in enumerate(texts):
        has[row, [place[label] for label in parted(text)]] = True
    return has


def texts_of(has: NDArray[np.bool_], labels: Sequence[str]) -> list[str]:
    """Return the labels of each row of such a matrix as one text."""
    names = np.array(labels, dtype=object)
    return [joined(names[row]) for row in has]
