"""How far annotators agree beyond chance, for labels without an order.

Each function takes answers as numbers: which row, which annotator, which label, one answer of an annotator a row. The
cost goes with the answers, not with the classes squared.
"""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def cohen(first: Numbers, second: Numbers) -> float | None:
    """Return Cohen's kappa of two annotators, "A coefficient of agreement for nominal scales" (1960).

    Args:
        first: label numbers of one annotator, shape (rows,).
        second: those of the other on the same rows.

    Returns:
        At most 1; None without rows, or where both gave one and the same label throughout.
    """
    if not len(first):
        return None
    classes = int(max(first.max(), second.max())) + 1
    shares = [np.bincount(each, minlength=classes) / len(first) for each in (first, second)]
    return _beyond_chance(float((first == second).mean()), float(shares[0] @ shares[1]))


def cohen_pairs(rows: Numbers, annotators: Numbers, labels: Numbers) -> dict[tuple[int, int], tuple[int, float | None]]:
    """Return for each pair of annotators the number of rows that both answered, if any, and Cohen's kappa on them."""
    of = {int(who): (rows[annotators == who], labels[annotators == who]) for who in np.unique(annotators)}
    found: dict[tuple[int, int], tuple[int, float | None]] = {}
    for one, other in combinations(of, 2):
        shared, left, right = np.intersect1d(of[one][0], of[other][0], assume_unique=True, return_indices=True)
        if len(shared):
            found[one, other] = (len(shared), cohen(of[one][1][left], of[other][1][right]))
    return found


def fleiss(rows: Numbers, labels: Numbers) -> tuple[int, float | None]:
    """Return Fleiss' kappa, "Measuring nominal scale agreement among many raters" (1971), and on how many rows.

    It wants the same number of answers in each row: the rows of the most frequent number, from 2 on, are taken.
    """
    answers = np.bincount(rows)
    frequency = np.bincount(answers)
    if len(frequency) < 3:
        return 0, None
    each = int(frequency[2:].argmax()) + 2
    kept = answers[rows] == each
    _, counts = _cells(rows[kept], labels[kept])
    count = int(frequency[each])
    observed = (float((counts.astype(np.float64) ** 2).sum()) - count * each) / (count * each * (each - 1))
    shares = np.bincount(labels[kept]) / (count * each)
    return count, _beyond_chance(observed, float(shares @ shares))


def krippendorff(rows: Numbers, labels: Numbers) -> float | None:
    """Return Krippendorff's alpha for nominal data, "Computing Krippendorff's alpha-reliability" (2011).

    Rows may have any number of answers; those with one say nothing.
    """
    answers = np.bincount(rows)
    kept = answers[rows] > 1
    total = int(kept.sum())
    if not total:
        return None
    _, places = np.unique(rows[kept], return_inverse=True)
    pairs = np.bincount(places) - 1  # each answer is compared with this many others
    row_of, counts = _cells(places, labels[kept])
    same = float((counts * (counts - 1) / pairs[row_of]).sum()) / total
    shares = np.bincount(labels[kept]).astype(np.float64)
    return _beyond_chance(same, float((shares * (shares - 1)).sum()) / (total * (total - 1)))


def _cells(rows: Numbers, labels: Numbers) -> tuple[Numbers, Numbers]:
    """Return the row, and the number of answers, of each pair of a row and a label that occurs."""
    pairs, counts = np.unique(np.stack([rows, labels]), axis=1, return_counts=True)
    return pairs[0], counts.astype(np.int64)


def _beyond_chance(observed: float, expected: float) -> float | None:
    return None if expected >= 1 else (observed - expected) / (1 - expected)
