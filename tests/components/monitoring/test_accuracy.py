"""Accuracy from feedback and without it."""

import numpy as np
import pytest

from components.monitoring.drift.accuracy import LEAST_LABELS, Baseline, Scored, estimated, from_feedback

BASELINE = Baseline(0.93, 7600)
CLASSES = np.array(["a", "b", "c"])


def counted(right: int, rows: int) -> tuple[list[str], list[str]]:
    return ["a"] * rows, ["a"] * right + ["new"] * (rows - right)


@pytest.mark.parametrize(
    ("right", "rows", "drifted"),
    [
        (80, LEAST_LABELS - 1, False), (80, LEAST_LABELS, True), (88, LEAST_LABELS, False), (930, 1000, False),
        (885, 1000, False), (870, 1000, True), (4450, 5000, False),
    ],
)  # fmt: skip
def test_a_drop_counts_from_100_labels_and_5_points_on(right: int, rows: int, drifted: bool) -> None:
    found = from_feedback(*counted(right, rows), BASELINE)
    assert found.drifted == drifted
    assert found.low < right / rows == found.value < found.high
    assert (found.p_value is None) == (rows < LEAST_LABELS)


def test_equal_models_seldom_look_worse() -> None:
    random = np.random.default_rng(0)
    drops = [from_feedback(*counted(int(random.binomial(100, 0.93)), 100), BASELINE).drifted for _ in range(400)]
    assert np.mean(drops) <= 0.02


def answers(shares: list[float], rows: int, random: np.random.Generator) -> tuple[Scored, list[str]]:
    """Draw truth by the classes' shares, and answers that are worse, and less sure, for each class in turn."""
    truth = random.choice(3, rows, p=shares)
    right = random.random(rows) < np.array([0.98, 0.9, 0.75])[truth]
    given = np.where(right, truth, (truth + random.integers(1, 3, rows)) % 3)
    confidence = np.clip(np.where(right, 0.85, 0.7) + random.normal(0, 0.08, rows), 0.34, 1)
    return Scored(CLASSES[given].tolist(), confidence), CLASSES[truth].tolist()


@pytest.mark.parametrize("shares", [[1 / 3, 1 / 3, 1 / 3], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
def test_without_labels_it_is_right_after_a_shift_of_the_mix(shares: list[float]) -> None:
    random = np.random.default_rng(1)
    reference, truth = answers([1 / 3, 1 / 3, 1 / 3], 2000, random)
    window, real = answers(shares, 2000, random)
    found = estimated(reference, truth, window, BASELINE)
    accuracy = np.mean([answer == label for answer, label in zip(window.answers, real, strict=True)])
    assert found.value == pytest.approx(accuracy, abs=0.02)
    assert found.low <= accuracy <= found.high


def test_the_order_of_the_classes_does_not_matter() -> None:
    random = np.random.default_rng(2)
    reference, truth = answers([0.5, 0.3, 0.2], 500, random)
    window, _ = answers([0.2, 0.3, 0.5], 300, random)
    names = {"a": "z", "b": "m", "c": "a"}

    def renamed(scored: Scored) -> Scored:
        return Scored([names[answer] for answer in scored.answers], scored.confidence)

    one = estimated(reference, truth, window, BASELINE)
    other = estimated(renamed(reference), [names[label] for label in truth], renamed(window), BASELINE)
    assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high))


def test_a_model_that_grows_unsure_is_estimated_as_worse() -> None:
    random = np.random.default_rng(3)
    reference, truth = answers([1 / 3, 1 / 3, 1 / 3], 2000, random)
    unsure = Scored(reference.answers, np.full(2000, 0.55))
    found = estimated(reference, truth, unsure, BASELINE)
    assert found.drifted and found.high < 0.5
