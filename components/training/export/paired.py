"""Comparing two models on the same rows: only rows that one has right and the other wrong tell them apart."""

import math

from scipy.optimize import brentq
from scipy.stats import norm

_LEVEL = 0.05


def most_loss(lost: int, won: int, rows: int) -> float:
    """Return the upper end of the one-sided 95% interval of what a model loses against another, as a share of rows.

    Method: the score interval of Tango 1998, "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design", which is of use with no discordant row, too: the loss may then still be
    up to 2.7 rows.

    Args:
        lost: rows that the other model alone has right.
        won: rows that this model alone has right.
        rows: all rows, at least 1.
    """
    if lost == rows:
        return 1.0
    critical = float(norm.ppf(_LEVEL))
    return float(brentq(lambda loss: _score(lost, won, rows, loss) - critical, (lost - won) / rows, 1.0))


def _score(lost: int, won: int, rows: int, loss: float) -> float:
    """Return how many standard errors the difference lies over a supposed loss, negative where it lies below."""
    difference = lost - won - rows * loss
    a = 2 * rows
    b = (2 * rows - lost + won) * loss - lost - won
    c = -won * loss * (1 - loss)
    only_this = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = rows * (2 * only_this + loss * (1 - loss))
    if variance <= 0:
        return 0.0 if difference == 0 else math.copysign(math.inf, difference)
    return difference / math.sqrt(variance)
