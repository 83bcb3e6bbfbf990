"""A model's answers to the test rows, kept so that every figure comes from one pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.platform.progress import Progress
from predictor.model.classifier import BATCH, Classifier

NO_CLASS = -1
"""The answer where a model names a class that the test lacks, or gives no numbers."""
# The most probabilities in memory at a time: 64 MB of them, or 4 million texts of four classes.
PROBABILITIES = 16_000_000


@dataclass(frozen=True)
class Predictions:
    """Answers of a model, one element a row."""

    answers: NDArray[np.int64]
    """Positions in the labels of the data set, or `NO_CLASS`."""
    confidence: NDArray[np.float32]
    """Probability of the answer."""
    truth_probability: NDArray[np.float32]
    """Probability of the true class; 0 where the model does not have it."""
    numbers: NDArray[np.bool_]
    """Whether the probabilities of the row are finite."""


def predict(
    classifier: Classifier, texts: Sequence[str], truth: NDArray[np.int64], labels: Sequence[str], what: str
) -> Predictions:
    """Answer texts with a bundle, through the code that serves it.

    Args:
        classifier: of the bundle; its labels need not be those of the data set.
        texts: as they were collected.
        truth: positions in `labels`, shape (rows,).
        labels: of the data set.
        what: the model, for the progress.
    """
    position = {label: number for number, label in enumerate(labels)}
    places = np.array([position.get(label, NO_CLASS) for label in classifier.labels], dtype=np.int64)
    columns = np.full(len(labels), len(classifier.labels), dtype=np.int64)  # one past the end: the model lacks it
    columns[places[places >= 0]] = np.flatnonzero(places >= 0)
    portion = max(BATCH, PROBABILITIES // len(classifier.labels))
    progress = Progress(what, len(texts))
    parts = []
    for start in range(0, len(texts), portion):

        def done(count: int, before: int = start) -> None:
            progress(before + count)

        rows = classifier.probabilities(list(texts[start : start + portion]), done)
        parts.append(_of(rows, places, columns[truth[start : start + portion]]))
    return Predictions(*(np.concatenate(kind) for kind in zip(*parts, strict=True)))


def _of(
    rows: NDArray[np.float32], places: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    numbers = np.asarray(np.isfinite(rows).all(axis=1))
    rows = np.where(numbers[:, None], rows, np.float32(0.0))
    answers = places[rows.argmax(axis=1)]
    answers[~numbers] = NO_CLASS
    known = columns < rows.shape[1]
    of_truth = np.zeros(len(rows), dtype=np.float32)
    of_truth[known] = rows[np.flatnonzero(known), columns[known]]
    return answers, rows.max(axis=1), of_truth, numbers
