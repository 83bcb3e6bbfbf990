"""How a step ends early: with one sentence that says why, and after cleaning up."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from predictor.errors import InputError, Unavailable

# `kubectl describe pod` shows the content of /dev/termination-log; the local runner sets the variable instead.
FILE_VARIABLE = "PIGEONHOLE_TERMINATION_LOG"
UNAVAILABLE_SUFFIX = ".unavailable"
_KUBERNETES_FILE = "/dev/termination-log"
_PR_SET_PDEATHSIG = 1


@contextmanager
def one_sentence() -> Iterator[None]:
    """End the step with the sentence as its termination message and exit code 2 on bad input, 3 if something is away.

    The local runner finds the sentence about what is away in a file of its own, `unavailable` its suffix.
    """
    try:
        yield
    except (InputError, Unavailable) as error:
        away = isinstance(error, Unavailable)
        file = Path(os.environ.get(FILE_VARIABLE, _KUBERNETES_FILE))
        if FILE_VARIABLE in os.environ and away:
            file = file.with_suffix(UNAVAILABLE_SUFFIX)
        if FILE_VARIABLE in os.environ or file.exists():
            file.write_text(str(error), encoding="utf-8")
        print(f"error: {error}", flush=True)
        raise SystemExit(3 if away else 2) from None


def end_with_parent() -> None:
    """Let the kernel end this process when its parent ends, which torchrun's workers do not do; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def termination_raises() -> Iterator[None]:
    """Turn SIGTERM, with which a pod is ended, into SystemExit, so that the step removes what it made elsewhere."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
