"""Tests that decide: paired comparisons on the same rows, floors, and Holm's correction over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, binomtest, norm

from components.training.export.paired import paired_interval

LEVEL = 0.05
"""Chance of an error of the first kind: of one test alone, or of a family of tests together."""
_POWER = 0.8


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
