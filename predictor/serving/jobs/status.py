"""What callers learn of a job and its rows."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MOST_TEXTS = 100_000
"""Of a job."""
JobState = Literal["queued", "running", "done", "cancelled"]


@dataclass(frozen=True)
class JobStatus:
    """How far a job is."""

    id: str
    """32 hexadecimal digits that nobody guesses."""
    state: JobState
    total: int
    """Texts."""
    done: int
    """Texts answered, failed ones included."""
    failed: int
    """Of these, texts that could not be answered."""
    seconds_left: float | None
    """Estimated from measured rates; None while no rate is known, 0 where nothing is left to do."""


@dataclass(frozen=True)
class RowResult:
    """The answer to one text of a job."""

    probabilities: NDArray[np.float32] | None
    """Calibrated, of shape (labels,); None where there is an error."""
    error: str = ""
    """One sentence that says why there is no answer."""
    version: str = ""
    """The bundle that answered: a job goes on when another bundle of the same labels is rolled out."""
