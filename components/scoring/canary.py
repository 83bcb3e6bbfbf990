"""Whether labelled rows show that a batch is worse than the bundle should be."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scipy.special import betainc, betaln

from predictor.model.bundle import ServingSpec

MARGIN = 0.05
"""How far under its baseline a batch may be."""
LEVEL = 0.05
"""The most batches that are paused although they are not `MARGIN` under the baseline, of 1."""


@dataclass(frozen=True)
class Tally:
    """Labelled rows, and how many of them got their label."""

    rows: int = 0
    right: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.rows + other.rows, self.right + other.right)

    @property
    def accuracy(self) -> float | None:
        """The share that is right; None without rows."""
        return self.right / self.rows if self.rows else None

    @classmethod
    def total(cls, tallies: Iterable["Tally"]) -> "Tally":
        """Return the sum."""
        return sum(tallies, cls())


def baseline_of(spec: ServingSpec) -> float:
    """Return the accuracy that a bundle had on its test rows, as it serves; on its validation rows if it names none."""
    validation = spec.metrics.get(f"validation_accuracy_{spec.precision}", spec.baseline_accuracy)
    return float(spec.metrics.get("test_accuracy", validation))


def log_evidence(tally: Tally, floor: float) -> float:
    """Return the logarithm of the evidence that the accuracy is under the floor.

    The likelihood ratio of an accuracy under the floor to the floor itself, averaged over all accuracies under the
    floor with equal weights. If the accuracy is the floor or more, it is a supermartingale that begins at 1, however
    often one looks: the chance that it ever reaches 20 is at most 1/20 (Ville 1939; the mixture is that of Robbins,
    Statistical methods related to the law of the iterated logarithm, 1970).

    Args:
        tally: what was seen so far.
        floor: an accuracy, above 0 and under 1.
    """
    right, wrong = tally.right, tally.rows - tally.right
    # The integral of q^right (1-q)^wrong from 0 to the floor is an incomplete beta function
    below = float(betainc(right + 1, wrong + 1, floor))
    if below <= 0:  # far above the floor
        return -math.inf
    at_floor = right * math.log(floor) + wrong * math.log1p(-floor)
    return float(betaln(right + 1, wrong + 1)) + math.log(below) - math.log(floor) - at_floor


def shown_below(tally: Tally, baseline: float, margin: float = MARGIN, level: float = LEVEL) -> bool:
    """Whether it is shown that the accuracy is under the baseline by more than the margin.

    It may be asked after every part: of batches that are not under it, at most `level` are ever said to be.
    """
    floor = min(max(baseline - margin, 1e-6), 1 - 1e-6)
    return bool(tally.rows) and log_evidence(tally, floor) >= math.log(1 / level)
