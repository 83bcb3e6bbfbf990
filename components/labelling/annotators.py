"""How good each annotator is, seen from the others' answers."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from components.labelling.agreement import Numbers

LEAST_ROWS = 20
"""Fewer rows that others answered say nothing about an annotator."""
# "Slight" agreement ends here for Landis and Koch, "The measurement of observer agreement" (1977).
_SLIGHT = 0.2
_BELOW = 0.05
SPAMMER, BELOW, ONE_LABEL, UNKNOWN = "spammer", "below the others", "always one label", "too few rows to tell"


def wilson(right: int, of: int) -> tuple[float, float]:
    """Return the 95% interval of a share by Wilson's method (1927)."""
    found = binomtest(right, of).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def judge(rows: Numbers, annotators: Numbers, labels: Numbers, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each annotator: answers, accuracy against the majority of the others with its interval, and a flag.

    An answer is compared where the others of its row have one most frequent label: an annotator's own answer does not
    speak for itself. A spammer is one whose agreement beyond chance is surely slight: the upper end of the interval,
    corrected for chance as in Cohen's kappa, is below 0.2. That finds random answers and those that are always the
    same. Who surely lies 5 points under the middle annotator is "below the others".

    Args:
        rows: the row of each answer.
        annotators: whose it is.
        labels: what it is.
        names: of the annotators, by number.
    """
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        counts[row][label] += 1
    pairs: dict[int, list[tuple[int, int]]] = {who: [] for who in range(len(names))}
    for row, who, label in zip(rows.tolist(), annotators.tolist(), labels.tolist(), strict=True):
        others = (counts[row] - Counter([label])).most_common(2)
        if others and (len(others) == 1 or others[0][1] > others[1][1]):
            pairs[who].append((label, others[0][0]))
    found = [_judged(name, labels[annotators == who], pairs[who]) for who, name in enumerate(names)]
    known = [each["accuracy"] for each in found if each["compared"] >= LEAST_ROWS]
    middle = float(np.median(known)) if known else 0.0
    for each in found:
        if not each["flag"] and each["high"] < middle - _BELOW:
            each["flag"] = BELOW
    return found


def _judged(name: str, own: Numbers, pairs: list[tuple[int, int]]) -> dict[str, Any]:
    result: dict[str, Any] = {"annotator": name, "answers": len(own), "compared": len(pairs)}
    if not pairs:
        return {**result, "accuracy": None, "low": 0.0, "high": 1.0, "kappa": None, "flag": UNKNOWN}
    said, others = (Counter(column) for column in zip(*pairs, strict=True))
    right = sum(one == other for one, other in pairs)
    chance = sum(said[label] * others[label] for label in said) / len(pairs) ** 2
    low, high = wilson(right, len(pairs))
    accuracy = right / len(pairs)
    kappa, most = ((share - chance) / (1 - chance) if chance < 1 else None for share in (accuracy, high))
    flag = ""
    if len(pairs) < LEAST_ROWS:
        flag = UNKNOWN
    elif most is not None and most < _SLIGHT:
        flag = SPAMMER
    elif len(set(own.tolist())) == 1 and len(others) > 1:
        flag = ONE_LABEL
    return {
        **result, "accuracy": round(accuracy, 4), "low": round(low, 4), "high": round(high, 4),
        "kappa": None if kappa is None else round(kappa, 4), "flag": flag,
    }  # fmt: skip
