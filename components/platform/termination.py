"""How a step ends early: with one sentence that says why, and after tidying up."""

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

# Kubernetes shows the content of /dev/termination-log in `kubectl describe pod`; the local runner names its own file.
FILE_VARIABLE = "PIGEONHOLE_TERMINATION_LOG"
_KUBERNETES_FILE = "/dev/termination-log"
_PR_SET_PDEATHSIG = 1


@contextmanager
def one_sentence() -> Iterator[None]:
    """End the step with exit code 2 and its sentence as termination message when the input was bad."""
    try:
        yield
    except InputError as error:
        file = Path(os.environ.get(FILE_VARIABLE, _KUBERNETES_FILE))
        if FILE_VARIABLE in os.environ or file.exists():
            file.write_text(str(error), encoding="utf-8")
        print(f"error: {error}", flush=True)
        raise SystemExit(2) from None


def end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, as torchrun's workers would not; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def termination_raises() -> Iterator[None]:
    """Turn SIGTERM, which ends a step's pod, into SystemExit, so that the step tidies up what it leaves elsewhere."""
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
