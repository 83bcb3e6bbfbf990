"""Figures of one model, counted by hand."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from components.evaluation import predictions
from components.evaluation.measure import confusion_pairs, measure, worst_mistakes
from components.evaluation.predictions import NO_CLASS, Predictions, predict
from predictor.model.classifier import Classifier

LABELS = ["a", "b", "c"]
TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
GIVEN = Predictions(
    answers=np.array([0, 0, 0, 1, 1, 1, 1, 1, 0, NO_CLASS]),
    confidence=np.array([0.9, 0.9, 0.8, 0.7, 0.9, 0.9, 0.9, 0.9, 0.95, 0.1], dtype=np.float32),
    truth_probability=np.array([0.9, 0.9, 0.8, 0.2, 0.9, 0.9, 0.9, 0.9, 0.05, 0.0], dtype=np.float32),
    numbers=np.array([True] * 9 + [False]),
)


def test_scores_are_those_of_the_classes_that_have_rows() -> None:
    found = measure(GIVEN, TRUTH, LABELS)
    assert found.accuracy == 0.7 and found.not_numbers == 1
    a, b, c = found.classes
    assert (a.precision, a.recall, a.support) == (0.75, 0.75, 4)
    assert (b.precision, b.support) == (0.8, 6) and b.recall == pytest.approx(4 / 6) and c.support == 0
    assert found.macro_recall == pytest.approx((0.75 + 4 / 6) / 2)
    known = np.log([0.9, 0.9, 0.8, 0.2, 0.9, 0.9, 0.9, 0.9, 0.05, 1e-7])
    assert found.log_loss == pytest.approx(-known.mean(), rel=1e-5)


def test_selective_accuracy_begins_with_the_most_confident_rows() -> None:
    shares = dict(measure(GIVEN, TRUTH, LABELS).selective)
    # The most confident answer is wrong, the next six are right, then 0.8 right, 0.7 wrong, 0.1 wrong.
    assert shares[0.1] == 0 and shares[0.7] == pytest.approx(6 / 7)
    assert shares[0.8] == pytest.approx(7 / 8) and shares[1.0] == 0.7


def test_rows_without_an_answer_are_in_no_pair_and_no_example() -> None:
    assert confusion_pairs(TRUTH, GIVEN.answers) == [(0, 0, 3), (0, 1, 1), (1, 0, 1), (1, 1, 4)]
    examples = worst_mistakes([f"text {n}" for n in range(10)], LABELS, TRUTH, GIVEN)
    assert [(each.text, each.label, each.answer) for each in examples] == [("text 8", "b", "a"), ("text 3", "a", "b")]


class Other(Classifier):
    """Knows the classes b, x and a, in this order; each text is its probabilities."""

    def __init__(self) -> None:
        self.labels = ["b", "x", "a"]

    def probabilities(self, texts: Sequence[str], done: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        if done:
            done(len(texts))
        return np.array([[float(part) for part in text.split()] for text in texts], dtype=np.float32)


def test_answers_are_classes_of_the_data_whatever_the_model_calls_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["0.7 0.2 0.1", "0.1 0.8 0.1", "0.2 0.2 0.6", "nan 0.5 0.5", "0.6 0.1 0.3"]
    truth = np.array([1, 0, 0, 1, 2])
    told: list[int] = []
    monkeypatch.setattr(predictions, "BATCH", 2)
    monkeypatch.setattr(predictions, "PROBABILITIES", 1)
    monkeypatch.setattr(predictions, "Progress", lambda what, total: told.append)
    found = predict(Other(), texts, truth, LABELS, "other")
    assert found.answers.tolist() == [1, NO_CLASS, 0, NO_CLASS, 1]
    np.testing.assert_allclose(found.truth_probability, [0.7, 0.1, 0.6, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(found.confidence, [0.7, 0.8, 0.6, 0.0, 0.6], atol=1e-6)
    assert found.numbers.tolist() == [True, True, True, False, True] and told == [2, 4, 5]
