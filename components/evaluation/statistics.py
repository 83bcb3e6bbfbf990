"""Tests that decide: paired comparisons on the same rows, floors, and Holm's correction over all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, norm

from components.training.export.paired import paired_interval

LEVEL = 0.05
"""Chance of an error of the first kind: of one test alone, or of a family of tests together."""
_POWER = 0.8
_DRAWS, _SEED = 2000, 0
_AT_ONCE = 4_000_000
"""Numbers of a table of draws."""


@dataclass(frozen=True)
class Paired:
    """Two models on the same rows; only rows that one has right and the other wrong tell them apart."""

    rows: int
    only_first: int
    """Rows that only the first has right."""
    only_second: int

    def p_better(self) -> float:
        """Return the p-value of the first being better: McNemar's exact test, one-sided."""
        return _sign_test(self.only_first, self.only_second)

    def p_worse(self) -> float:
        """Return the p-value of the first being worse: McNemar's exact test, one-sided."""
        return _sign_test(self.only_second, self.only_first)

    def interval(self) -> tuple[float, float]:
        """Return the bounds of the gain in accuracy, a share of 1, each one-sided at 95% (Tango 1998)."""
        return paired_interval(self.only_first, self.only_second, self.rows)

    def smallest_difference(self) -> float:
        """Return the smallest true difference of the accuracies that these rows show four times in five.

        Method: Connor 1987, "Sample size for testing differences in proportions for the paired-sample design", turned
        round, at the disagreement seen (at least one row) and one-sided at 5%.
        """
        disagreement = max(1, self.only_first + self.only_second) / self.rows
        at_chance, at_power = norm.ppf(1 - LEVEL), norm.ppf(_POWER)
        difference = 0.0
        for _ in range(20):  # the spread under the alternative depends on the difference that is looked for
            spread = max(0.0, disagreement - difference * difference)
            difference = float((at_chance * np.sqrt(disagreement) + at_power * np.sqrt(spread)) / np.sqrt(self.rows))
        return min(1.0, difference)


@dataclass(frozen=True)
class Parts:
    """What micro F1 is made of, by row, each of shape (rows,)."""

    found: NDArray[np.int64]
    """Labels that are rightly given."""
    both: NDArray[np.int64]
    """Labels that are given and labels that there are, together."""

    @classmethod
    def of(cls, has: NDArray[np.bool_], truth: NDArray[np.bool_]) -> "Parts":
        """Return the parts of answers, both of shape (rows, labels)."""
        return cls((has & truth).sum(axis=1), has.sum(axis=1) + truth.sum(axis=1))

    def f1(self) -> float:
        """Return micro F1: 2 found / (given + there); 1 where no label is given and none is there."""
        return float(_f1(self.found.sum()[None], self.both.sum()[None])[0])


def f1_interval(parts: Parts) -> tuple[float, float]:
    """Return the 95% interval of micro F1 over samples of rows: the percentile bootstrap (Efron 1979)."""
    drawn = np.concatenate([_f1(weights @ parts.found, weights @ parts.both) for weights in _draws(len(parts.found))])
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def f1_gain(first: Parts, second: Parts) -> tuple[float, float, float, float, float]:
    """Compare the micro F1 of two models on the same rows by the paired bootstrap over rows.

    Both are scored on the same draws, so that rows that are hard for both tell nothing (Efron and Tibshirani 1993, "An
    Introduction to the Bootstrap", chapter 16; Koehn 2004 for scores that are no means over rows).

    Returns:
        The gain of the first, its bounds, each one-sided at 95%, and the p-values of the first being worse and better.
    """
    gains = np.concatenate(
        [
            _f1(weights @ first.found, weights @ first.both) - _f1(weights @ second.found, weights @ second.both)
            for weights in _draws(len(first.found))
        ]
    )
    low, high = np.quantile(gains, (LEVEL, 1 - LEVEL))
    worse, better = ((1 + int(found.sum())) / (1 + len(gains)) for found in (gains >= 0, gains <= 0))
    return first.f1() - second.f1(), float(low), float(high), worse, better


def _draws(rows: int) -> Iterator[NDArray[np.int64]]:
    """Yield how often each row is drawn, in tables of shape (draws, rows) that fit into memory."""
    random = np.random.default_rng(_SEED)
    at_once = max(1, min(_DRAWS, _AT_ONCE // rows))
    for start in range(0, _DRAWS, at_once):
        yield random.multinomial(rows, np.full(rows, 1 / rows), size=min(at_once, _DRAWS - start))


def _f1(found: NDArray[np.int64], both: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(both > 0, 2 * found / np.maximum(both, 1), 1.0)


def p_below(right: int, rows: int, floor: float) -> float:
    """Return the p-value of the true share being under a floor, given `right` of `rows`; 1 without rows."""
    return float(binom.cdf(right, rows, floor)) if rows else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that the chance of any false alarm in the family stays at the level.

    Method: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(order), 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * float(p_values[number])))
        adjusted[number] = highest
    return adjusted


def _sign_test(more: int, fewer: int) -> float:
    return float(binomtest(more, more + fewer, alternative="greater").pvalue) if more + fewer else 1.0
