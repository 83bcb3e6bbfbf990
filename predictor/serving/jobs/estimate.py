"""How long a job will take: what is served before its last text, over what the live replicas were measured to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

# The weight of a chunk in the measured rate halves with about seven further chunks.
_KEEP = 0.9


@dataclass(frozen=True)
class Lane:
    """One of the two streams of chunks, from which replicas take in turns."""

    chunks: int
    """That wait or run."""
    submitted: int
    """Texts ever submitted to it."""
    finished: int
    """Texts of it that were ever answered or dropped."""

    @property
    def texts(self) -> int:
        """Texts that wait or run."""
        return max(0, self.submitted - self.finished)


def seconds_left(left: int, position: int, own: Lane, other: Lane, rates: Sequence[float]) -> float | None:
    """Return the seconds until a job is done.

    Args:
        left: its texts that are not answered.
        position: the number, among the texts ever submitted to its lane, of its last one.
        own: the lane that it is in.
        other: the lane that is served in turns with it.
        rates: texts a second of each live replica.

    Returns:
        None where no replica has measured its rate yet.
    """
    rate = sum(rates)
    if not rate:
        return None
    before = max(left, min(position - own.finished, own.texts))
    # As many chunks of the other lane are served as of this one, as long as there are any.
    chunk = own.texts / own.chunks if own.chunks and own.texts else 1
    other_chunk = other.texts / other.chunks if other.chunks else 0
    return (before + min(other.texts, before / chunk * other_chunk)) / rate


class RateMeter:
    """Measures how many texts a second this replica answers while it has chunks, beside whatever else it does."""

    def __init__(self) -> None:
        self._held = 0
        self._since = 0.0
        self._texts = self._seconds = 0.0

    @property
    def rate(self) -> float:
        """Texts a second; 0 before anything was measured."""
        return self._texts / self._seconds if self._seconds else 0.0

    def begin(self) -> None:
        """Note that a chunk is started."""
        if not self._held:
            self._since = monotonic()
        self._held += 1

    def end(self, texts: int) -> None:
        """Note that a chunk has ended, with so many texts answered."""
        self._held -= 1
        if texts:
            now = monotonic()
            self._texts = self._texts * _KEEP + texts
            self._seconds = self._seconds * _KEEP + now - self._since
            self._since = now
