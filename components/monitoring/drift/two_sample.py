"""Tests of whether two sets of rows come from one distribution, each against a null of permuted rows.

Which row is of the window is drawn anew, and everything that depends on it is computed again. So the null knows of the
classifier's overfitting and of the dependence between folds, which formulas do not. Texts that are equal
have equal scores, so nothing may depend on the order of rows, which has the reference first where permutations do not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import ks_2samp

_STAGES = (99, 400, 1500)
"""Permutations, in portions: after a portion the test ends where there is nothing to find."""
_ENOUGH = 10
_AT_ONCE = 250
"""Permutations whose scores are in memory at a time."""
_FOLDS = 5
_PRIOR = 2.0
"""Rows with each trait that are added to both sets, in proportion, so that rare traits tell little."""
_NEW = 0.15
"""Of the window, the rows that may be of something new."""
_ROUNDS = 2
"""How often the classifier is trained again on those."""
_TOPS = (0.02, 0.05, 0.2, 0.5)
"""Shares of the rows among which the window's are counted."""
_BANDWIDTH = 0.3
"""Of the kernel, in median squared distances."""
_ROUNDING = 1e-7
"""By which discrepancies differ that are equal but for their 32 bits: ten times what was seen of 4,000 rows."""

Columns = NDArray[np.float64]
Statistic = Callable[[Columns], Columns]
"""From which rows are of the window (1) and which not (0), shape (rows, permutations), to a number for each."""


@dataclass(frozen=True)
class Shift:
    """What a test found."""

    size: float
    """How many more of the window's rows than of the reference's, as a share of 1, are above the best threshold of
    the score."""
    p_value: float
    unlike: NDArray[np.float64]
    """How much each row, the reference's first, looks like the window's; shape (rows,)."""


def classifier_test(traits: csr_matrix, reference_rows: int, seed: int = 0) -> Shift:
    """Return how well a classifier tells rows of the window, which come last, on rows that it was not trained on.

    Method: the classifier two-sample test (Lopez-Paz and Oquab 2017, "Revisiting Classifier Two-Sample Tests") with
    naive Bayes in five folds. Where a new topic comes in, few rows of the window are unlike. So it is trained again on
    those that look the most so, and the statistic is not the accuracy, but how many rows of the window are among those
    with the highest scores.

    Args:
        traits: 0 or 1, shape (rows, traits).
        reference_rows: how many rows, the first ones, are of the reference.
        seed: of folds and permutations.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(traits.shape[0])
    traits = traits[order]
    folds = np.array_split(np.arange(len(order)), _FOLDS)
    parts = [traits[fold] for fold in folds]

    def fitted(new: Columns, known: Columns) -> Columns:
        news, olds = np.asarray(traits.T @ new), np.asarray(traits.T @ known)
        found = np.empty_like(new)
        for fold, part in zip(folds, parts, strict=True):
            left = [np.maximum(1, rows.sum(axis=0) - rows[fold].sum(axis=0)) for rows in (new, known)]
            ratio = left[1] / left[0]
            inside, outside = (all_ - part.T @ rows[fold] for all_, rows in ((news, new), (olds, known)))
            found[fold] = part @ np.log((inside + _PRIOR) / (outside / ratio + _PRIOR))
        return found

    def scores(window: Columns) -> Columns:
        found = fitted(window, 1 - window)
        for _ in range(_ROUNDS):
            found = fitted(_highest(found, window), 1 - window)
        return found

    seen = _window(len(order), reference_rows)[order]
    unlike = np.empty(len(order))
    unlike[order] = scores(seen)[:, 0]
    p_value = permutation_p(lambda window: _among_the_highest(scores(window), window), seen, random)
    return Shift(most_apart(unlike, reference_rows), p_value, unlike)


def mmd_test(features: Columns, reference_rows: int, seed: int = 0) -> Shift:
    """Return the maximum mean discrepancy of the window's rows, which come last.

    Method: Gretton et al. 2012, "A Kernel Two-Sample Test", with a Gaussian kernel. Its value has no scale that a
    person knows, so the size is that of its witness function as a score.
    """
    random = np.random.default_rng(seed)
    kernel = _gaussian(features)

    def statistic(window: Columns) -> Columns:
        weights = (window / window.sum(axis=0) - (1 - window) / (1 - window).sum(axis=0)).astype(np.float32)
        return np.asarray((weights * (kernel @ weights)).sum(axis=0), dtype=np.float64)

    seen = _window(len(features), reference_rows)
    inside = seen[:, 0].astype(bool)
    sides = [
        (kernel[:, group].sum(axis=1) - group) / np.maximum(1, group.sum() - group)  # no row is its own neighbour
        for group in (inside, ~inside)
    ]
    witness = (sides[0] - sides[1]).astype(np.float64)
    return Shift(most_apart(witness, reference_rows), permutation_p(statistic, seen, random, _ROUNDING), witness)


def spread_test(before: NDArray[np.float64], now: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Return the size and the p-value of a difference between two sets of numbers.

    The size is Kolmogorov and Smirnov's statistic. The test is Anderson and Darling's, which sees the ends of a
    distribution better (Pettitt 1976, "A Two-Sample Anderson-Darling Rank Statistic"), against permutations.
    """
    values = np.concatenate([before, now])
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))[:-1]  # equal numbers count together
    if not len(ends):
        return 0.0, 1.0
    below = (ends + 1.0)[:, None]
    weights = np.diff(ends, prepend=-1)[:, None] / (below * (len(values) - below))

    def statistic(window: Columns) -> Columns:
        counted = window[order].cumsum(axis=0)[ends]
        return np.asarray((weights * (counted - below * window.mean(axis=0)) ** 2).sum(axis=0))

    p_value = permutation_p(statistic, _window(len(values), len(before)), np.random.default_rng(seed))
    return float(ks_2samp(before, now, method="asymp").statistic), p_value


def most_apart(scores: NDArray[np.float64], reference_rows: int) -> float:
    """Return the most by which the share of the window's rows above a threshold exceeds the reference's."""
    order = np.argsort(-scores, kind="stable")
    inside = order >= reference_rows
    gain = np.cumsum(inside) / inside.sum() - np.cumsum(~inside) / (~inside).sum()
    ends = np.append(np.diff(scores[order]) != 0, True)  # rows of one score are on one side of any threshold
    return max(0.0, float(gain[ends].max()))


def permutation_p(statistic: Statistic, seen: Columns, random: np.random.Generator, rounding: float = 0.0) -> float:
    """Return the p-value of a statistic that is large where the two sets differ.

    After each portion of permutations the test ends if ten or more were as extreme as what was seen (Besag and Clifford
    1991, "Sequential Monte Carlo p-values"): a small p-value always rests on all of them.

    Args:
        statistic: of the two sets.
        seen: which rows are of the window, shape (rows, 1).
        random: draws the permutations.
        rounding: how far two values may be apart that are equal but for rounding.
    """
    observed = float(statistic(seen)[0])
    least = observed - max(rounding, 1e-9 * abs(observed))
    drawn = extreme = 0
    for portion in _STAGES:
        for start in range(0, portion, _AT_ONCE):
            count = min(_AT_ONCE, portion - start)
            null = statistic(random.permuted(np.repeat(seen, count, axis=1), axis=0))
            extreme += int((null >= least).sum())
        drawn += portion
        if extreme >= _ENOUGH:
            break
    return (extreme + 1) / (drawn + 1)


def _highest(scores: Columns, window: Columns) -> Columns:
    """Return which rows of the window have the highest scores: 1 for a share of `_NEW` of them, 0 for all others."""
    of_window = np.where(window > 0, scores, -np.inf)
    place = len(scores) - max(_FOLDS, int(_NEW * window[:, 0].sum()))
    return np.asarray(of_window >= np.partition(of_window, place, axis=0)[place], dtype=np.float64)


def _among_the_highest(scores: Columns, window: Columns) -> Columns:
    """Return how far the window's rows among those with the highest scores exceed their share, in standard deviations.

    That is the largest over the shares of rows in `_TOPS`.
    """
    rows = len(scores)
    ranked = np.take_along_axis(window, np.argsort(-scores, axis=0), axis=0).cumsum(axis=0)
    share = window.mean(axis=0)
    tops = [max(1, int(top * rows)) for top in _TOPS]
    found = [(ranked[top - 1] - top * share) / np.sqrt(top * share * (1 - share)) for top in tops]
    return np.asarray(np.max(found, axis=0))


def _window(rows: int, reference_rows: int) -> Columns:
    return (np.arange(rows) >= reference_rows).astype(np.float64)[:, None]


def _gaussian(features: Columns) -> NDArray[np.float32]:
    vectors = features.astype(np.float32)
    squares = (vectors**2).sum(axis=1)
    distances = np.maximum(0, squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T)
    middle = float(np.median(distances[:: max(1, len(vectors) // 500)]))
    result: NDArray[np.float32] = np.exp(-distances / np.float32(max(_BANDWIDTH * middle, 1e-9)))
    return result
