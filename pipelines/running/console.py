"""The terminal output of a local pipeline run: the lines of the steps, without those of kfp's runner."""

import io
import re
from pathlib import Path
from typing import TextIO

from components.platform.progress import LINE, PROGRESS

_STARTED = re.compile(r"Executing task .*?'([\w-]+)'")
_STYLES = re.compile(r"\x1b\[[0-9;]*m")


class Console(io.TextIOBase):
    """Writes all output of the runner and the steps to a log file, and shows the lines that are meant for the user.

    On a terminal a progress line replaces the one before it.

    Args:
        log: the file that gets everything.
        screen: where the shown lines go.
    """

    def __init__(self, log: Path, screen: TextIO) -> None:
        self._log = log.open("w", encoding="utf-8")
        self._screen = screen
        self._live = screen.isatty()
        self._pending = ""
        self._on_progress = False

    def write(self, text: str) -> int:
        """Log text and show its complete lines; a line may arrive in several pieces."""
        self._log.write(text)
        self._pending += text
        *lines, self._pending = self._pending.split("\n")
        for line in lines:
            self._show(line.strip())
        return len(text)

    def flush(self) -> None:
        """Flush the log and the screen."""
        if not self._log.closed:
            self._log.flush()
        self._screen.flush()

    def close(self) -> None:
        """Close the log; the screen stays open."""
        if self._on_progress:
            self._screen.write("\n")
            self._on_progress = False
        self._log.close()
        super().close()

    def _show(self, line: str) -> None:
        if line.startswith(PROGRESS):
            shown = f"  {line.removeprefix(PROGRESS)}"
            self._screen.write(f"\r\x1b[2K{shown}" if self._live else f"{shown}\n")
            self._on_progress = self._live
        elif line.startswith(LINE):
            self._line(f"  {line.removeprefix(LINE)}")
        elif started := _STARTED.search(_STYLES.sub("", line)):
            self._line(f"{started[1]}")
        self._screen.flush()

    def _line(self, text: str) -> None:
        if self._on_progress:
            self._screen.write("\n")
            self._on_progress = False
        self._screen.write(text + "\n")
