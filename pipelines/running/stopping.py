"""Stop a command together with all processes that it started, even if it is killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

MARK_VARIABLE = "PIGEONHOLE_STARTED_BY"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Long enough for a step to record its failure in MLflow. A process that ignores SIGTERM is killed afterwards.
_GRACE_SECONDS = 10.0
_watchdogs: set[int] = set()


class Stopped(SystemExit):
    """A signal stopped the command, and its child processes have exited. The exit code is 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


@contextmanager
def signals_stop_children() -> Iterator[None]:
    """Turn the first SIGTERM or SIGINT into `Stopped`; in the main thread only.

    All child processes are terminated first: kfp's local runner does not expose the ones that it starts, and waits for
    them without a time limit.
    """

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # the cleanup is short and must not be interrupted
        terminate([child for child in psutil.Process().children(recursive=True) if child.pid not in _watchdogs])
        raise Stopped(number)

    before = {each: signal.signal(each, stop) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def no_orphans(*kept_open: int) -> Iterator[None]:
    """Terminate every program started inside, and its descendants, when the block ends or this process is killed.

    Forks of this process that do not execute another program are not found.

    Args:
        kept_open: file descriptors, such as a lock's, that stay open until all of these programs have exited.
    """
    mark, before = uuid.uuid4().hex, os.environ.get(MARK_VARIABLE)
    unmarked = {name: value for name, value in os.environ.items() if name != MARK_VARIABLE}
    root = str(Path(__file__).parents[2])  # -P: never import from the current folder
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "pipelines.running.watchdog", str(os.getpid()), mark],
        # A session of its own, so that Ctrl-C or a signal to this process group does not reach it.
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=kept_open, start_new_session=True,
        env={**unmarked, "PYTHONPATH": root},
    ) as watchdog:  # fmt: skip
        _watchdogs.add(watchdog.pid)
        os.environ[MARK_VARIABLE] = mark
        try:
            yield
        finally:
            os.environ.pop(MARK_VARIABLE)
            os.environ.update({MARK_VARIABLE: before} if before else {})
            watchdog.communicate()
            _watchdogs.discard(watchdog.pid)


def terminate(processes: Sequence[psutil.Process]) -> None:
    """Send SIGTERM to processes and wait until they exit; after a grace period, send SIGKILL."""
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                ask(process)
        deadline = time.monotonic() + _GRACE_SECONDS
        while processes := [process for process in processes if _runs(process)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    """Return whether a process still runs; in a container without an init process an orphan may stay a zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
