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

from predictor.errors import InputError

# `kubectl describe pod` shows the content of /dev/termination-log; the local runner sets the variable instead.
FILE_VARIABLE = "PIGEONHOLE_TERMINATION_LOG"
_KUBERNETES_FILE = "/dev/termination-log"
_PR_SET_PDEATHSIG = 1


@contextmanager
def one_sentence() -> Iterator[None]:
    """On bad input, end the step with exit code 2 and the sentence as its termination message."""
    try:
        yield
    except InputError as error:
        file = Path(os.environ.get(FILE_VARIABLE, _KUBERNETES_FILE))
        if FILE_VARIABLE in os.environ or file.exists():
            file.write_text(str(error), encoding="utf-8")
        print(f"error: {error}", flush=True)
        raise SystemExit(2) from None


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
