"""A terminal that a command under test writes to."""

import fcntl
import os
import pty
import struct
import termios
from contextlib import suppress
from typing import Self


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
        """Return all that was written; nothing more can be."""
        self.stdout.close()
        parts = []
        with suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(self._screen, 1 << 16):
                parts.append(part)
        return b"".join(parts).decode().replace("\r\n", "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stdout.close()
        os.close(self._screen)
