"""Retries: a server that is busy is asked again, after the time it names or after longer and longer pauses."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from predictor.errors import Unavailable

# Where the server names no time; each pause is followed by one more try.
_PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0)
# A server that asks for more will not be back for this call.
_LONGEST_WAIT = 60.0

Result = TypeVar("Result")


class Busy(Exception):
    """The server cannot answer now; `wait` is how many seconds it asks for, None where it does not say."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def retried(call: Callable[[], Result], stopped: threading.Event) -> Result:
    """Call until it returns or raises something other than Busy.

    Args:
        call: raises Busy where another try makes sense.
        stopped: set, it ends the waiting.

    Raises:
        Unavailable: the last try found the server busy, too, or the server asks for too long a wait.
    """
    for pause in (*_PAUSES, None):
        try:
            return call()
        except Busy as busy:
            wait = pause if busy.wait is None else busy.wait
            too_long = wait is not None and wait > _LONGEST_WAIT
            if pause is None or wait is None or too_long or stopped.wait(wait):
                asks = f", and asks to wait {wait:g} s" if too_long else ""
                raise Unavailable(f"{busy}{asks}: look at the server or try later") from busy
    raise AssertionError("the last try either returns or raises")


def seconds_to_wait(retry_after: str) -> float | None:
    """Read a Retry-After header, which holds seconds or a date; None for neither."""
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
