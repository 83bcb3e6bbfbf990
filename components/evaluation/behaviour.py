"""Runs behavioural tests: how often the answer is as they expect."""

from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from components.data.behaviour.changes import CHANGES
from components.data.behaviour.lines import Line, check_labels
from components.evaluation.scores import BehaviourScore
from components.platform.progress import Progress
from predictor.model.calibration import decided
from predictor.model.classifier import Classifier

_TRIED = 200
"""The most test rows that a change is tried on."""
_FAILURES = 3
_SHOWN_CHARACTERS = 200


def run_behaviour(
    lines: Sequence[Line], classifier: Classifier, texts: Sequence[str], seed: int
) -> list[BehaviourScore]:
    """Return how often each test holds.

    Args:
        lines: the tests.
        classifier: of the bundle that is tested.
        texts: of the test split.
        seed: fixes which rows a change is tried on, and what it does to them.

    Raises:
        InputError: a line names a label that there is not.
    """
    labels = classifier.labels
    check_labels(lines, labels)
    tests: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        tests.setdefault((line.kind, line.name), []).append(line)
    cases = {test: [case for line in same for case in _cases(line, texts, seed)] for test, same in tests.items()}
    # Changes are tried on the same rows, so each text is asked once.
    asked = list({text: None for found in cases.values() for case in found for text in case[:2]})
    answers = classifier.probabilities(asked, Progress("behavioural tests", len(asked)))
    rows = dict(zip(asked, answers, strict=True))
    return [
        _score(kind, name, tests[kind, name][0].floor, found, rows, labels, classifier.thresholds)
        for (kind, name), found in cases.items()
        if found
    ]


def _score(
    kind: str, name: str, floor: float, cases: Sequence[tuple[str, str, str]],
    rows: Mapping[str, NDArray[np.float32]], labels: Sequence[str], thresholds: NDArray[np.float32] | None,
) -> BehaviourScore:  # fmt: skip
    def said(row: NDArray[np.float32]) -> list[int]:
        """Return the label of a text, or those that it has."""
        return [int(row.argmax())] if thresholds is None else np.flatnonzero(decided(row, thresholds)).tolist()

    held = []
    for text, changed, label in cases:
        before, after = rows[text], rows[changed]
        if kind == "invariance":
            held.append(said(before) == said(after))
        elif kind == "minimum":
            held.append(label in [labels[place] for place in said(after)])
        else:
            place = labels.index(label)
            held.append(after[place] >= before[place])
    failures = [case[1][:_SHOWN_CHARACTERS] for case, good in zip(cases, held, strict=True) if not good]
    return BehaviourScore(name, kind, len(cases), sum(map(bool, held)), floor, failures[:_FAILURES])


def _cases(line: Line, texts: Sequence[str], seed: int) -> list[tuple[str, str, str]]:
    """Return text, changed text and label of each case; texts that a change leaves as they are say nothing."""
    if not line.change:
        return [(line.text, line.changed or line.text, line.label)]
    random, change = Random(seed), CHANGES[line.change]
    some = random.sample(list(texts), min(len(texts), 10 * _TRIED))
    pairs = ((text, change(text, random), "") for text in some)
    return [case for case in pairs if case[0] != case[1]][:_TRIED]
