"""Label sets that hold the truth as often as was asked: split conformal prediction.

Method: Sadinle, Lei and Wasserman 2019, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels". A set has
all labels whose probability is at least a threshold. For a coverage of 90% the threshold is such that of n labelled
rows that no weight was fitted on, ceil(0.9 (n + 1)) have a true label above it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from predictor.errors import BadRequest


class Level(BaseModel):
    """One coverage that can be asked for; shares are of 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coverage: float = Field(gt=0, lt=1)
    """Of texts like the rows that set the threshold, those whose set holds the true label, on average at least."""
    threshold: float = Field(ge=0, le=1)
    """The least probability of a label in the set."""
    low: float
    """With these very rows the coverage is at least this, with 95% probability."""
    high: float
    """And at most this."""


class Conformal(BaseModel):
    """The levels of coverage of a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    """Rows that set the thresholds."""
    levels: list[Level]


def threshold_of(conformal: Conformal | None, coverage: float | None) -> float | None:
    """Return the threshold of a coverage; None where none is asked for.

    Raises:
        BadRequest: there is no such level.
    """
    if coverage is None:
        return None
    if conformal is None or not conformal.levels:
        raise BadRequest("this bundle has no thresholds for label sets: leave coverage out, or train it again")
    for level in conformal.levels:
        if abs(level.coverage - coverage) < 1e-9:
            return level.threshold
    raise BadRequest(f"there is no coverage {coverage:g}: ask for {', '.join(f'{n:g}' for n in levels_of(conformal))}")


def levels_of(conformal: Conformal | None) -> list[float]:
    """Return the levels of coverage that can be asked for."""
    return [level.coverage for level in conformal.levels] if conformal else []


def label_sets(rows: NDArray[np.float32], threshold: float) -> list[list[int]]:
    """Return for each row the labels whose probability is at least the threshold, the most probable first.

    The most probable label is always there. A set without any label would be as rare as wrong, and of no use.

    Args:
        rows: probabilities, shape (texts, labels).
        threshold: the least probability.
    """
    return [_set_of(row, threshold) for row in rows]


def _set_of(row: NDArray[np.float32], threshold: float) -> list[int]:
    inside = np.flatnonzero(row >= np.float32(threshold))
    if not len(inside):
        return [int(row.argmax())]
    order: Sequence[int] = inside[np.argsort(-row[inside], kind="stable")].tolist()
    return list(order)
