"""One request's texts, and each text that runs once for all requests that have it."""

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
    """A text that waits or runs, on behalf of everybody who asked for it."""

    ids: Ids
    key: bytes | None
    turn: int
    number: int
    """Differs from every other text's."""
    since: float
    waits: bool = True
    callers: dict["Call", list[int]] = field(default_factory=dict)
    """Who asked, and which of the caller's texts it is: several of them where a caller repeats itself."""


class Call:
    """One caller's texts."""

    def __init__(self, size: int) -> None:
        self.texts: list[QueuedText] = []
        self._size = self._left = size
        self._rows: NDArray[np.float32] | None = None
        self._repeated: tuple[list[int], list[int]] = ([], [])
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answer(self, places: int | Sequence[int], row: Row) -> None:
        """Fill in the row of one text, at each place where the caller has it."""
        if self._rows is None:
            self._rows = np.empty((self._size, len(row)), dtype=np.float32)
        self._rows[places] = row
        self._count(1 if isinstance(places, int) else len(places))

    def repeat(self, place: int, first: int) -> None:
        """Give the text at a place the answer of an equal one, which is asked for once."""
        self._repeated[0].append(place)
        self._repeated[1].append(first)
        self._count(1)

    def _count(self, answered: int) -> None:
        self._left -= answered
        if not self._left and not self._done.done():
            self._done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Give up on all texts."""
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
