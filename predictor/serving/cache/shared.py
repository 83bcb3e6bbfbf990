"""The cache in Redis that all replicas of a bundle share, behind the one in memory.

It may never slow a request or make one fail: where Redis does not answer in a moment, no request asks it any more until
it has answered a ping, which no request waits for. What is read is checked, since others may write there, too.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import numpy as np
import orjson
from redis.exceptions import RedisError

from predictor.errors import one_line
from predictor.serving.call import Row
from predictor.serving.redis.client import connect
from predictor.serving.redis.metrics import Lookup

log = logging.getLogger("pigeonhole")

EXPIRY_SECONDS = 3600
"""How long an answer is kept: so much shorter than a job that a full Redis drops answers first (volatile-ttl)."""
# Seconds that a request waits for Redis, two times at most: one question is asked at a time, for all that wait by then.
_PATIENCE = 0.05
_WRITE_PATIENCE = 1.0
# Redis that did not answer in time is pinged after this many seconds, then twice as many, up to the greatest number.
_PAUSE = 1.0
_MOST_PAUSE = 30.0
# Answers are gathered for a moment before they are written, this many at a time at most; what is more is not kept.
_GATHER = 0.05
_MOST_UNWRITTEN = 4096
_MOST_AT_ONCE = 512
# How far the sum of a row's float32 probabilities may be from 1.
_ROUNDING = 1e-3


class SharedCache:
    """Rows of texts that any replica answered.

    Args:
        url: of the Redis.
        about: what an answer depends on beside its text: the bundle, the precision, whether there is a cascade.
        labels: how many numbers a row has.
        count: called with a result and a number of texts.
        sums_to_one: whether a row does; those of a multi-label model do not.

    Raises:
        InputError: it is no URL of a Redis.
    """

    def __init__(
        self, url: str, about: str, labels: int, count: Callable[[Lookup, int], None], sums_to_one: bool = True
    ) -> None:
        self._redis = connect(url)
        self._prefix = f"pigeonhole:answers:{about}:".encode()
        self._labels, self._sums_to_one = labels, sums_to_one
        self._count = count
        self._waiting: deque[tuple[Sequence[bytes], asyncio.Future[list[Row | None]]]] = deque()
        self._unwritten: dict[bytes, bytes | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading = self._writing = self._pinging = False
        self._usable = False
        self._pause = 0.0

    async def get(self, keys: Sequence[bytes]) -> list[Row | None]:
        """Return the row of each key, None where it is not known."""
        if not self._usable:
            self._ping_soon()
            self._count("unavailable", len(keys))
            return [None] * len(keys)
        found: asyncio.Future[list[Row | None]] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, found))
        if not self._reading:
            self._reading = True
            self._start(self._read())
        return await found

    def put(self, key: bytes, row: Row) -> None:
        """Add a row, soon, unless Redis cannot be used."""
        if self._usable:
            self._write_soon(key, row.astype("<f4").tobytes())

    async def close(self) -> None:
        """Drop what is not written, and close the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._redis.aclose()

    async def _read(self) -> None:
        """Ask for all keys that wait, together, until none does."""
        try:
            while self._waiting:
                asked = list(self._waiting)
                self._waiting.clear()
                keys = [key for some, _ in asked for key in some]
                rows = iter(self._checked(keys, await self._values(keys)))
                for some, found in asked:
                    mine = [next(rows) for _ in some]
                    if not found.done():  # its caller has gone
                        found.set_result(mine)
        finally:
            self._reading = False

    async def _values(self, keys: Sequence[bytes]) -> Sequence[bytes | None] | None:
        if self._usable:
            with self._breaking():
                async with asyncio.timeout(_PATIENCE):
                    values: Any = await self._redis.mget([self._prefix + key for key in keys])
                    return list(values)
        return None

    def _checked(self, keys: Sequence[bytes], values: Sequence[bytes | None] | None) -> list[Row | None]:
        """Return the rows among what was read; what is none is removed."""
        if values is None:
            self._count("unavailable", len(keys))
            return [None] * len(keys)
        rows = [None if value is None else self._row(value) for value in values]
        poisoned = [
            key for key, value, row in zip(keys, values, rows, strict=True) if value is not None and row is None
        ]
        for key in poisoned:
            self._write_soon(key, None)
        hits = sum(row is not None for row in rows)
        for result, texts in (("hit", hits), ("poisoned", len(poisoned)), ("miss", len(keys) - hits - len(poisoned))):
            if texts:
                self._count(result, texts)  # type: ignore[arg-type]
        return rows

    def _row(self, value: bytes) -> Row | None:
        if len(value) != 4 * self._labels:
            return None
        row = np.frombuffer(value, dtype="<f4").astype(np.float32)
        sound = np.isfinite(row).all() and (row >= 0).all() and (row <= 1 + _ROUNDING).all()
        return row if sound and (not self._sums_to_one or abs(float(row.sum()) - 1) < _ROUNDING) else None

    def _write_soon(self, key: bytes, value: bytes | None) -> None:
        """Write a value, or remove what is there, before long."""
        if len(self._unwritten) < _MOST_UNWRITTEN:
            self._unwritten[key] = value
            if not self._writing:
                self._writing = True
                self._start(self._write())

    async def _write(self) -> None:
        try:
            while self._unwritten:
                await asyncio.sleep(_GATHER)
                pipeline = self._redis.pipeline(transaction=False)
                for key in list(self._unwritten)[:_MOST_AT_ONCE]:
                    value = self._unwritten.pop(key)
                    if value is None:
                        pipeline.delete(self._prefix + key)
                    else:
                        pipeline.set(self._prefix + key, value, ex=EXPIRY_SECONDS)
                with self._breaking():
                    async with asyncio.timeout(_WRITE_PATIENCE):
                        await pipeline.execute()
        finally:
            self._writing = False

    @contextlib.contextmanager
    def _breaking(self) -> Iterator[None]:
        """Ask Redis nothing any more where it fails or does not answer in time."""
        try:
            yield
        except (RedisError, TimeoutError, OSError) as error:
            self._usable = False
            self._unwritten.clear()
            self._pause = min(max(_PAUSE, 2 * self._pause), _MOST_PAUSE)
            about = {"event": "shared cache not used", "seconds": self._pause, "error": one_line(repr(error))}
            log.warning(orjson.dumps(about).decode())
        else:
            self._pause = 0.0

    def _ping_soon(self) -> None:
        if not self._pinging:
            self._pinging = True
            self._start(self._ping())

    async def _ping(self) -> None:
        """Wait and ping Redis, which also connects; requests ask it again where it answers."""
        try:
            await asyncio.sleep(self._pause)
            ping: Any = self._redis.ping()
            await ping
            self._usable = True
        except (RedisError, OSError):
            self._pause = min(max(_PAUSE, 2 * self._pause), _MOST_PAUSE)
        finally:
            self._pinging = False

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
