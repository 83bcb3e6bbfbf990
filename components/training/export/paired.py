"""Comparing two models on the same rows: only rows that one has right and the other wrong tell them apart."""

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

LEVEL = 0.05
"""Chance that a bound is on the wrong side of the truth."""


def paired_interval(only_first: int, only_second: int, rows: int) -> tuple[float, float]:
    """Return the bounds of the difference of two accuracies on the same rows, each one-sided at `LEVEL`.

    Method: the score interval of Tango 1998, "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design". It holds with few rows, and with none on which the two differ.

    Args:
        only_first: rows that only the first got right.
        only_second: rows that only the second got right.
        rows: all rows, at least 1.
    """

    def score(difference: float) -> float:
        a = 2 * rows
        b = (2 * rows - only_first + only_second) * difference - only_first - only_second
        c = -only_second * difference * (1 - difference)
        share = (np.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        spread = rows * (2 * share + difference * (1 - difference))
        return float((only_first - only_second - rows * difference) / np.sqrt(max(spread, 1e-12)))

    z = float(norm.ppf(1 - LEVEL))
    seen = (only_first - only_second) / rows
    low = brentq(lambda at: score(at) - z, -1 + 1e-9, seen) if score(-1 + 1e-9) > z else -1.0
    high = brentq(lambda at: score(at) + z, seen, 1 - 1e-9) if score(1 - 1e-9) < -z else 1.0
    return float(low), float(high)
