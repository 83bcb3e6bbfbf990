"""A terminal that a command under test writes to."""

import fcntl
import os
import pty
import struct
import termios
from typing import Self

_MARK = "\0"


class Terminal:
    """A pseudo-terminal; `stdout` is its end for the command.

    Args:
        columns: how wide it is.
    """

    def __init__(self, columns: int = 80) -> None:
        self._screen, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.stdout = os.fdopen(end, "w", encoding="utf-8")

    def shown(self) -> str:
        """Return all that was written since the last call."""
        print(end=_MARK, file=self.stdout, flush=True)  # what was written before it may arrive in pieces
        taken = b""
        while not taken.endswith(_MARK.encode()):
            taken += os.read(self._screen, 1 << 16)
        return taken.decode().removesuffix(_MARK).replace("\r\n", "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stdout.close()
        os.close(self._screen)
