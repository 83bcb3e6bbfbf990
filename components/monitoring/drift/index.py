"""From tests to one index in [0, 1] that is over 0.2 where something has to be done.

The size of a shift is, for every part, at least the share of the window's texts that would have to be others for the
window to look like the reference (a lower bound of the total variation distance). The index of a part is over 0.2 if
both hold: the shift is beyond chance, by Holm over all parts, and its size is at least `least_size`. From there to 1 it
grows with the size. Up to 0.2 it says how far the weaker of the two is from being enough.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from components.evaluation.statistics import holm
from predictor.errors import InputError

LINE = 0.2
"""Over it the training data does not stand any more for what comes in."""
LEAST_LEVEL = 0.005
"""Under it, seven parts that rest on two thousand permutations could not show any shift."""


@dataclass(frozen=True)
class Limits:
    """When a shift counts."""

    level: float = 0.01
    """The chance that any part of a window without a shift counts as drifted."""
    least_size: float = 0.05
    """A shift of fewer texts, as a share of 1, is not worth a training, however certain it is."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: one of them can never be met, or always is.
        """
        if not (LEAST_LEVEL <= self.level < 1 and 0 < self.least_size < 1):
            raise InputError(
                f"a level of {self.level:g} with a least size of {self.least_size:g} decides nothing: give a level of "
                f"{LEAST_LEVEL:g} or more and a size, each under 1"
            )


@dataclass(frozen=True)
class Finding:
    """What a part measured, before it is compared with the others."""

    size: float
    """From 0 to 1."""
    p_value: float
    note: str
    """In words, for people."""


@dataclass(frozen=True)
class Part:
    """A part of the verdict; score and p-value are None where it could not be computed, and the note says why."""

    score: float | None
    """The index of this part alone."""
    p_value: float | None
    """After Holm's correction."""
    drifted: bool
    note: str
    size: float | None = None


def score(size: float, p_value: float, limits: Limits) -> float:
    """Return the index, 0 to 1, of a part with this size and corrected p-value."""
    if size > limits.least_size and p_value <= limits.level:
        return LINE + (1 - LINE) * (min(1.0, size) - limits.least_size) / (1 - limits.least_size)
    evidence = math.log(max(p_value, 1e-12)) / math.log(limits.level)
    return LINE * max(0.0, min(1.0, evidence, size / limits.least_size))


def compared(findings: Mapping[str, Finding | str], limits: Limits) -> dict[str, Part]:
    """Return the parts by name, with Holm's correction over those that were computed.

    Args:
        findings: by name; a sentence stands for a part that cannot be computed.
        limits: when a shift counts.
    """
    found = {name: each for name, each in findings.items() if isinstance(each, Finding)}
    corrected = dict(zip(found, holm([each.p_value for each in found.values()]), strict=True))
    parts = {}
    for name, each in findings.items():
        if isinstance(each, str):
            parts[name] = Part(None, None, False, each)
            continue
        value = score(each.size, corrected[name], limits)
        parts[name] = Part(value, corrected[name], value > LINE, each.note, each.size)
    return parts
