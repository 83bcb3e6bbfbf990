"""Evaluations of models that were never trained, for tests of gate and report."""

from dataclasses import replace
from typing import Any

import numpy as np

from components.evaluation.scores import (
    BehaviourScore,
    Champion,
    ClassScore,
    Evaluation,
    Mistake,
    ModelScore,
    SliceScore,
)
from components.training.export.reliability import Bin

SCORE = ModelScore(
    accuracy=0.95,
    accuracy_low=0.93,
    accuracy_high=0.96,
    macro_precision=0.95,
    macro_recall=0.95,
    macro_f1=0.95,
    log_loss=0.15,
    calibration_error=0.01,
    error_by_chance=0.02,
    bins=[Bin(0.4, 0.5, 100, 0.45, 0.6, 0.5, 0.69), Bin(0.9, 1.0, 900, 0.97, 0.98, 0.97, 0.99)],
    selective=[(0.5, 0.99), (1.0, 0.95)],
    classes=[ClassScore("a", 0.95, 0.95, 0.95, 500), ClassScore("<b>", 0.95, 0.95, 0.95, 500)],
    not_numbers=0,
)
GOOD = Evaluation(
    task="toy",
    rows=1000,
    labels=["a", "<b>"],
    score=SCORE,
    baseline_accuracy=0.94,
    only_model_right=30,
    only_baseline_right=20,
    confusion=[(0, 0, 475), (0, 1, 25), (1, 0, 25), (1, 1, 475)],
    mistakes=[Mistake("<script>alert(1)</script> | $x$", "a", "<b>", 0.99)],
    precision="int8",
    precision_reason="int8 loses nothing",
    agreement=0.99,
    agreement_rows=1000,
    texts_per_second=300.0,
    latency_ms=12.0,
    size_bytes=90_000_000,
    leaked=0,
    slices=[SliceScore("source = <i>", 100, 93), SliceScore("has 'storm'", 40, 20, found=True)],
    behaviour=[BehaviourScore("typos", "invariance", 200, 190, 0.9, ["<u>typo</u>"])],
)
CHAMPION = Champion("3", "abc", score=replace(SCORE, accuracy=0.94), only_candidate=30, only_champion=20)


def with_score(base: Evaluation = GOOD, **changes: Any) -> Evaluation:
    """Return an evaluation whose model has other figures."""
    return replace(base, score=replace(base.score, **changes))


UNTESTED = with_score(
    replace(GOOD, labels=["a", "<b>", "c"]), classes=[*SCORE.classes, ClassScore("c", 0.0, 0.0, 0.0, 0)]
)


def many(classes: int) -> Evaluation:
    """A test of four rows a class: class 3 is taken for its neighbour twice, each other one once in a while."""
    random = np.random.default_rng(0)
    labels = [f"class number {number} of a long taxonomy" for number in range(classes)]
    wrong = {number: int(random.integers(classes)) for number in range(0, classes, 2) if number != 3}
    confusion = [(number, number, 3 if number in wrong else 4) for number in range(classes) if number != 3]
    confusion += [(number, answer, 1) for number, answer in wrong.items() if number != answer]
    confusion += [(3, 3, 2), (3, 4, 2)]
    scores = [ClassScore(label, 0.9, 0.9, 0.8 + 0.1 * (number % 2), 4) for number, label in enumerate(labels)]
    scores[3] = ClassScore(labels[3], 0.5, 0.5, 0.5, 4)
    scores[5] = ClassScore(labels[5], 0.0, 0.0, 0.0, 0)
    return with_score(replace(GOOD, rows=4 * classes, labels=labels, confusion=sorted(confusion)), classes=scores)
