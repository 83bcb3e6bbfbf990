"""What every step that posts to a cluster needs: its reason in words, and an end that tidies up."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from kubernetes.client.exceptions import ApiException


def message_of(error: ApiException) -> str:
    """Return the sentence in the API server's answer, on one line, or the reason where it has none."""
    try:
        text = json.loads(error.body)["message"]
    except (ValueError, KeyError, TypeError):
        text = error.reason
    return " ".join(str(text).split())[:300]


@contextmanager
def termination_raises() -> Iterator[None]:
    """Turn SIGTERM, which ends a step's pod, into SystemExit, so that what the step posted is deleted."""
    if threading.current_thread() is not threading.main_thread():  # signals arrive there only
        yield
        return

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
