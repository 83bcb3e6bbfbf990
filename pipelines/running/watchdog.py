"""The watchdog: a small process that terminates what a command started, once the command has exited or was killed.

    python -m pipelines.running.watchdog PID MARK < PIPE

The command holds the other end of PIPE. SIGKILL and the kernel's OOM killer leave a command no time to terminate its
steps, which would go on running and writing. The command's descendants are found by a mark in their environment: every
process inherits it, also in a new session and after its parent has exited.
"""

import os
import select
import signal
import sys
from collections.abc import Iterator

import psutil

from pipelines.running.stopping import MARK_VARIABLE, terminate

# The pipe closes as soon as the command exits. If a fork of the command keeps it open, the change of the parent process
# is noticed at most this much later.
_POLL_SECONDS = 0.5


def main(command: int, mark: str) -> None:
    """Wait until the command has exited, then terminate every process with the mark."""
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # it exits soon after the command anyway
    while os.getppid() == command:
        if select.select([sys.stdin], [], [], _POLL_SECONDS)[0]:
            break
    while descendants := list(_marked(mark)):  # again, since one of them may have started another
        terminate(descendants)


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK_VARIABLE) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.Error, OSError):  # another user's process, or one that has exited
            continue


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
