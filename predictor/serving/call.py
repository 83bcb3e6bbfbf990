"""A caller's texts, and the queued texts, each of which runs once for all callers that sent it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ids = Sequence[int]
"""Token ids of a text."""
Row = NDArray[np.float32]
"""Class probabilities of a text."""


@dataclass(eq=False, slots=True)
class QueuedText:
    """A text that waits or runs, for all callers that sent it."""

    ids: Ids
    key: bytes | None
    """Its key in the cache; None where it has none."""
    turn: int
    """Number of the batch by which it has a claim to run."""
    number: int
    """A number that no other text has."""
    since: float
    """When it was queued, in seconds of `perf_counter`."""
    background: bool = False
    """Whether nobody waits for it but a job: it leaves room in the queue, and its answer out of the caches."""
    waits: bool = True
    callers: dict["Call", list[int]] = field(default_factory=dict)
    """For each caller, the places of the text in its request: several where the request repeats it."""


class Call:
    """One caller's texts and their answers.

    Args:
        size: how many texts.
        background: whether other callers go first.
    """

    def __init__(self, size: int, background: bool = False) -> None:
        self.background = background
        self.texts: list[QueuedText] = []
        self._size = self._left = size
        self._rows: NDArray[np.float32] | None = None
        self._repeated: tuple[list[int], list[int]] = ([], [])
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answer(self, places: int | Sequence[int], row: Row) -> None:
        """Set the row of a text, at each of its places in the request."""
        if self._rows is None:
            self._rows = np.empty((self._size, len(row)), dtype=np.float32)
        self._rows[places] = row
        self._count(1 if isinstance(places, int) else len(places))

    def repeat(self, place: int, first: int) -> None:
        """Give the text at a place the row of an equal text at an earlier place, which runs once."""
        self._repeated[0].append(place)
        self._repeated[1].append(first)
        self._count(1)

    def _count(self, answered: int) -> None:
        self._left -= answered
        if not self._left and not self._done.done():
            self._done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Fail the whole call."""
        if not self._done.done():
            self._done.set_exception(error)

    async def rows(self) -> NDArray[np.float32]:
        """Wait for the rows and return them in the caller's order, shape (texts, width of a row).

        Raises:
            InternalError: the engine cannot answer one of the texts.
        """
        await self._done
        assert self._rows is not None
        places, firsts = self._repeated
        self._rows[places] = self._rows[firsts]
        return self._rows
