"""The test rows, and what a model answers to them: of one label a row, and of any number."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import Dataset
from components.evaluation.measure import confusion_pairs, measure, worst_mistakes
from components.evaluation.predictions import NO_CLASS, predict
from components.evaluation.scores import F1Gain, Mistake, ModelScore
from components.evaluation.sets.measure import measure_sets, predict_sets, worst_sets
from components.evaluation.statistics import Parts, f1_gain
from predictor.label_matrix import label_matrix
from predictor.model.classifier import Classifier


@dataclass(frozen=True)
class Answers:
    """A model's answers, a row for each test row, and its figures."""

    score: ModelScore
    right: NDArray[np.bool_]
    """Whether the label, or all labels, are right."""
    names: NDArray[np.object_]
    """The label, or the labels joined by `|`; None where the model has no answer that is a class of the data."""
    confidence: NDArray[np.float32]
    truth_probability: NDArray[np.float32]
    mistakes: list[Mistake]
    confusion: list[tuple[int, int, int]] = field(default_factory=list)
    """(true class, answer, rows); of multi-label data none, since a row has no one true class."""
    parts: Parts | None = None
    """Of multi-label data, what micro F1 is made of."""


class Asked(Protocol):
    """The test rows."""

    @property
    def tested(self) -> Sequence[str]:
        """The labels that some row has."""

    def of(self, classifier: Classifier, what: str) -> Answers:
        """Return a model's answers; `what` is the model, for the progress."""

    def parts(self, names: NDArray[np.object_]) -> Parts | None:
        """Return what micro F1 is made of, of answers by name; None where a row has one label."""


class LabelTest:
    """Test rows with one label each.

    Args:
        dataset: its test split.
        labels: in the order of the class ids.
    """

    def __init__(self, dataset: Dataset, labels: list[str]) -> None:
        self._texts, self._labels = dataset.test.texts, labels
        self._truth = np.array(dataset.test.label_ids(labels))
        self.tested = [labels[number] for number in np.unique(self._truth)]

    def of(self, classifier: Classifier, what: str) -> Answers:
        """Return a model's answers."""
        truth, labels = self._truth, self._labels
        given = predict(classifier, self._texts, truth, labels, what)
        names = np.array([*labels, None], dtype=object)  # NO_CLASS, which is -1, is the last
        assert names[NO_CLASS] is None
        return Answers(
            measure(given, truth, labels), given.answers == truth, names[given.answers], given.confidence,
            given.truth_probability, worst_mistakes(self._texts, labels, truth, given),
            confusion_pairs(truth, given.answers),
        )  # fmt: skip

    def parts(self, names: NDArray[np.object_]) -> None:
        """Return nothing: accuracies are compared."""


class SetTest:
    """Test rows with any number of labels; the arguments are those of `LabelTest`."""

    def __init__(self, dataset: Dataset, labels: list[str]) -> None:
        self._texts, self._labels = dataset.test.texts, labels
        self._truth = dataset.test.label_matrix(labels)
        self.tested = [label for label, rows in zip(labels, self._truth.T, strict=True) if rows.any()]

    def of(self, classifier: Classifier, what: str) -> Answers:
        """Return a model's answers."""
        truth, labels = self._truth, self._labels
        given = predict_sets(classifier, self._texts, truth, labels, what)
        return Answers(
            measure_sets(given, truth, labels), given.right(truth), np.array(given.texts(labels), dtype=object),
            given.confidence, given.truth_probability.min(axis=1), worst_sets(self._texts, labels, truth, given),
            parts=given.parts(truth),
        )  # fmt: skip

    def parts(self, names: NDArray[np.object_]) -> Parts:
        """Return what micro F1 is made of, of answers by name."""
        return Parts.of(label_matrix(names.tolist(), self._labels), self._truth)


def gain_over(other: Parts | None, given: Parts | None) -> F1Gain | None:
    """Return how much more micro F1 the second answers have; None where a row has one label."""
    return F1Gain(*f1_gain(given, other)) if given and other else None
