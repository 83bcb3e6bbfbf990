"""Lines that a step prints for the person who watches it, and a progress line every two seconds at most."""

import time

# The local runner shows only lines with these marks. On a terminal, a PROGRESS line replaces the one before it.
LINE = "▸ "
PROGRESS = "▸… "


def say(text: str) -> None:
    """Print one line for the person who watches."""
    print(LINE + text, flush=True)


class Progress:
    """A progress line with the rate and the time left.

    Args:
        what: the name of the work, shown first.
        total: how many units there are.
        unit: what is counted, in the plural.
        every: the least number of seconds between two lines.
        done: units that were finished before this start; they do not count for the rate.
    """

    def __init__(self, what: str, total: int, unit: str = "texts", every: float = 2.0, done: int = 0) -> None:
        self._what, self._total, self._unit, self._every, self._before = what, total, unit, every, done
        self._start = self._shown = time.monotonic()

    def __call__(self, done: int, note: str = "") -> None:
        """Report that `done` units are finished in all, with an optional note such as the current loss."""
        now = time.monotonic()
        if now - self._shown < self._every and done < self._total:
            return
        self._shown = now
        rate = (done - self._before) / max(now - self._start, 1e-9)
        left = (self._total - done) / max(rate, 1e-9)
        clock = f"{int(left) // 60}:{int(left) % 60:02d}"
        tail = f"  {note}" if note else ""
        print(
            f"{PROGRESS}{self._what}  {done / self._total:4.0%}  {done:,}/{self._total:,} {self._unit}"
            f"  {rate:,.0f} {self._unit}/s  {clock} left{tail}",
            flush=True,
        )
