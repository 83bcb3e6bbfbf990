"""The thresholds of label sets, from rows that no weight was fitted on."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from predictor.model.conformal import Conformal, Level

LEVELS = (0.9, 0.95, 0.99)
_SPREAD = (0.025, 0.975)


def fit_levels(rows: NDArray[np.float32], truth: NDArray[np.int64], levels: Sequence[float] = LEVELS) -> Conformal:
    """Return the threshold of each level that so many rows can guarantee.

    The k-th greatest probability of a true label, k = ceil((n + 1) level), so that of new rows a share of `level` at
    least has a true label above it, whatever the model (Vovk et al. 2005; Sadinle et al. 2019). Averaged over sets of
    n rows, that is: with the rows at hand the coverage is a number from the distribution Beta(k, n + 1 - k), whose 95%
    interval is kept (Vovk 2012, "Conditional validity of inductive conformal predictors"). 9 rows are the fewest for
    90%, 99 for 99%; a level that needs more rows is left out.

    The rows also fitted the temperature, one number, so they are not quite like new ones. In 300 draws of 100 rows
    of film reviews, thresholds from other rows than the temperature had the same coverage to 0.1 points.

    Args:
        rows: probabilities, shape (rows, labels).
        truth: the class id of each row.
        levels: coverages, between 0 and 1.
    """
    scores = np.sort(rows[np.arange(len(truth)), truth])[::-1]
    found = []
    for level in levels:
        # Without the small part 0.9 * 10 would be above 9.
        place = math.ceil((len(scores) + 1) * level - 1e-9)
        if place <= len(scores):
            low, high = beta.ppf(_SPREAD, place, len(scores) + 1 - place)
            found.append(
                Level(coverage=level, threshold=float(scores[place - 1]), low=round(float(low), 4),
                      high=round(float(high), 4))
            )  # fmt: skip
    return Conformal(rows=len(scores), levels=found)
