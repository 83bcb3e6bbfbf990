"""The watcher: a small process that ends what a command started, once the command has ended, however it ended.

    python -m pipelines.running.watching PID MARK < a pipe whose other end the command holds

SIGKILL, and a kernel that is out of memory, leave a command no time to end its steps; its steps would go on, and write.
Who belongs to the command is told by a mark in the environment, which children hand on to theirs, whatever sessions
they make and whoever adopts them.
"""

import os
import select
import signal
import sys
from collections.abc import Iterator

import psutil

from pipelines.running.stopping import MARK_VARIABLE, end

# The pipe tells at once. Where a fork of the command holds it open, the command's own end is seen this much later.
_LOOK_SECONDS = 0.5


def main(command: int, mark: str) -> None:
    """Wait for the end of the command, then end all that bear the mark."""
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # it ends after the command, and soon
    while os.getppid() == command:
        if select.select([sys.stdin], [], [], _LOOK_SECONDS)[0]:
            break
    while family := list(_marked(mark)):  # again, as one of them may have started another
        end(family)


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK_VARIABLE) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.Error, OSError):  # somebody else's, or gone
            continue


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
