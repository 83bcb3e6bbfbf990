"""The thread that writes the log: it takes what waits, makes parts of it, and tries each part until it is stored."""

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import date

import orjson

from predictor.errors import one_line
from predictor.records import LINES, Kind
from predictor.serving.prediction_log.parts import Entry, Part, day_of

log = logging.getLogger("pigeonhole")

MOST_IN_A_PART = 10_000
"""Records."""
# A store that fails is tried again after this many seconds, then twice as many, up to the greatest number.
_RETRY = 0.5
_MOST_RETRY = 15.0
# And at the end of the server, when there is not much time left.
_END_RETRY = 0.2
# Seconds between two lines about a store that fails again and again.
_COMPLAIN = 60.0


class Buffer:
    """What waits to be stored. The event loop puts in at one end, the writer's thread takes out at the other.

    Each number is changed by one thread alone, so there are no locks to wait for.
    """

    def __init__(self) -> None:
        self._entries: deque[tuple[float, Entry]] = deque()
        self._in_records = self._in_bytes = self._out_records = self._out_bytes = 0
        self._taken_since: float | None = None

    @property
    def records(self) -> int:
        """Records that are not stored yet, those that are being stored among them."""
        return self._in_records - self._out_records

    @property
    def bytes(self) -> int:
        """About how much memory they take."""
        return self._in_bytes - self._out_bytes

    def put(self, entry: Entry) -> None:
        """Add an entry; the event loop does."""
        self._entries.append((time.monotonic(), entry))
        self._in_records += entry.count
        self._in_bytes += entry.size

    def take(self, most: int, until: float) -> Iterator[Entry]:
        """Take out entries that were put in up to a moment, until they are `most` records.

        They count as waiting until `stored`.
        """
        taken = 0
        while taken < most and self._entries and self._entries[0][0] <= until:
            if self._taken_since is None:
                self._taken_since = self._entries[0][0]
            _, entry = self._entries.popleft()
            taken += entry.count
            yield entry

    def stored(self, records: int, size: int) -> None:
        """Note that all that was taken so far is stored, or given up."""
        self._out_records += records
        self._out_bytes += size
        self._taken_since = None

    def oldest_seconds(self) -> float:
        """Return the age of the oldest record that is not stored yet; 0 if there is none."""
        since = self._taken_since
        if since is None:
            try:
                since = self._entries[0][0]
            except IndexError:
                return 0.0
        return max(0.0, time.monotonic() - since)


class Writer:
    """Stores what a buffer holds, at regular times and at the end.

    Args:
        buffer: what waits.
        put: stores a part: its path below the model's folder, and its bytes. It may take any time, and may fail.
        folder: returns the folder of a kind and a day.
        interval: seconds between two flushes.
        written: called with the number of records that were stored.
        failed: called when the store failed.
    """

    def __init__(
        self,
        buffer: Buffer,
        put: Callable[[str, bytes], None],
        folder: Callable[[Kind, date], str],
        interval: float,
        written: Callable[[int], None],
        failed: Callable[[], None],
    ) -> None:
        self._buffer = buffer
        self._put = put
        self._folder = folder
        self._interval = interval
        self._written, self._failed = written, failed
        self._parts: deque[Part] = deque()
        self._size = self._records = 0
        self._numbers = itertools.count()
        self._own = os.urandom(4).hex()
        self._wake, self._ending = threading.Event(), threading.Event()
        self._complained = -_COMPLAIN
        self._thread = threading.Thread(target=self._work, name="prediction log", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Flush now, and not only when it is time."""
        self._wake.set()

    def close(self, seconds: float) -> None:
        """Store what waits, for so many seconds at most; what is left then is lost, which the server's log says."""
        self._ending.set()
        self._wake.set()
        self._thread.join(seconds)
        if lost := self._buffer.records:
            log.error(orjson.dumps({"event": "prediction log not stored at the end", "records": lost}).decode())

    def flush(self) -> None:
        """Store all that waits now. What comes in meanwhile waits for the next time, or parts would be a few records.

        Raises:
            Exception: the store failed; what it did not take is kept for the next time.
        """
        started = time.monotonic()
        while self._parts or self._prepare(started):
            part = self._parts[0]
            name = f"{part.name}{LINES}"
            self._put(f"{self._folder(part.kind, part.day)}/{name}", part.data())
            self._parts.popleft()
            self._written(part.records)
            if not self._parts:
                self._buffer.stored(self._records, self._size)

    def _work(self) -> None:
        pause, wait = _RETRY, self._interval
        while True:
            self._wake.wait(wait)
            self._wake.clear()
            started = time.monotonic()
            try:
                self.flush()
            except Exception as error:
                self.complain(error)
                # Not woken by what comes in meanwhile: that would only hurry on a store that has enough to do.
                self._ending.wait(pause)
                pause, wait = min(2 * pause, _MOST_RETRY), 0.0
                if self._ending.is_set():
                    time.sleep(_END_RETRY)
            else:
                ending = self._ending.is_set()
                if ending and not self._buffer.records:
                    return
                pause, wait = _RETRY, 0.0 if ending else max(0.0, started + self._interval - time.monotonic())

    def _prepare(self, until: float) -> bool:
        """Make parts of what has waited since a moment or longer, and say whether there are any."""
        parts: dict[tuple[Kind, date], Part] = {}
        self._records = self._size = 0
        for entry in self._buffer.take(MOST_IN_A_PART, until):
            self._records += entry.count
            self._size += entry.size
            key = entry.kind, day_of(entry.time)
            if key not in parts:
                stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
                parts[key] = Part(*key, f"{stamp}-{self._own}-{next(self._numbers)}")
            parts[key].add(entry)
        self._parts.extend(parts.values())
        return bool(parts)

    def complain(self, error: Exception) -> None:
        """Count a failure, and log it unless the last one was logged just now."""
        self._failed()
        if time.monotonic() - self._complained >= _COMPLAIN:
            self._complained = time.monotonic()
            what = {"event": "prediction log not written", "error": f"{type(error).__name__}: {one_line(error)}"}
            log.error(orjson.dumps(what).decode())
