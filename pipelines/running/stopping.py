"""Being stopped: first the processes that were started here, then this one, whatever it was that stopped it."""

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
# Long enough for a step to say in MLflow that it failed; a native library that heeds no signal is killed after it.
_GRACE_SECONDS = 10.0
_watchers: set[int] = set()


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
        end([child for child in psutil.Process().children(recursive=True) if child.pid not in _watchers])
        raise Stopped(number)

    before = {each: signal.signal(each, stop) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def outlived_by_nothing(*held: int) -> Iterator[None]:
    """See to it that no program started inside outlives this process, nor what it starts in turn, even after SIGKILL.

    A fork of this process that runs no other program is not known.

    Args:
        held: file descriptors, such as a lock's, that stay open until all of them have ended.
    """
    mark, before = uuid.uuid4().hex, os.environ.get(MARK_VARIABLE)
    unmarked = {name: value for name, value in os.environ.items() if name != MARK_VARIABLE}
    ours = str(Path(__file__).parents[2])  # and not the folder we happen to be in, which -P leaves out
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "pipelines.running.watching", str(os.getpid()), mark],
        # A session of its own: Ctrl-C, or a signal to this one's group, is not for it.
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=held, start_new_session=True,
        env={**unmarked, "PYTHONPATH": ours},
    ) as watcher:  # fmt: skip
        _watchers.add(watcher.pid)
        os.environ[MARK_VARIABLE] = mark
        try:
            yield
        finally:
            os.environ.pop(MARK_VARIABLE)
            os.environ.update({MARK_VARIABLE: before} if before else {})
            watcher.communicate()
            _watchers.discard(watcher.pid)


def end(processes: Sequence[psutil.Process]) -> None:
    """End processes and wait for that, kindly at first."""
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
    """Say whether a process still does something; one whose parent has gone may stay a zombie in a container."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
