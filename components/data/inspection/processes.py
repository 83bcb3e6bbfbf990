"""Work on many texts, divided among processes."""

import itertools
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
# Texts that a process gets at a time: to send them takes less time than the work on them.
_AT_ONCE = 10_000


class Processes:
    """Processes that wait for work; close them as a context manager.

    Args:
        number: how many. They are started anew, not forked: threads of this process may hold locks. With one, this
            process does the work itself.
    """

    def __init__(self, number: int) -> None:
        self._pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn")) if number > 1 else None

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Sequence[str]], Sequence[T]], texts: Sequence[str]) -> list[T]:
        """Return what one call of `function` with all texts returns; it is called with parts of them.

        Args:
            function: of a module's top level; it returns a value for each text, which does not depend on the others.
            texts: few of them are worked on in this process.
        """
        parts = [texts[start : start + _AT_ONCE] for start in range(0, len(texts), _AT_ONCE)]
        results = self._pool.map(function, parts) if self._pool and len(parts) > 1 else map(function, parts)
        return list(itertools.chain.from_iterable(results))
