"""Being stopped, by SIGTERM or Ctrl-C: first the processes that were started here, then this one."""

import contextlib
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import psutil

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Long enough for a step to say in MLflow that it failed; a native library that heeds no signal is killed after it.
_GRACE_SECONDS = 10.0


class Stopped(SystemExit):
    """A signal ended the work, and every process under this one is gone; the exit code is what a shell makes of it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


@contextmanager
def stopped_with_children() -> Iterator[None]:
    """Turn the first SIGTERM or SIGINT into `Stopped`; in the main thread only.

    Whoever started the children need not know them: kfp's runner keeps its own to itself, and waits for them for ever.
    """

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # what follows is short, and must not be left half done
        _end_children()
        raise Stopped(number)

    before = {each: signal.signal(each, stop) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _end_children() -> None:
    family = psutil.Process().children(recursive=True)
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                ask(process)
        deadline = time.monotonic() + _GRACE_SECONDS
        while family := [process for process in family if _runs(process)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    """Say whether a process still does something; one whose parent has gone may stay a zombie in a container."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
