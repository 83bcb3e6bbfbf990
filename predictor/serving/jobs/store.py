"""Jobs in Redis: where everything lies, and the steps that change it.

All keys of a model share a hash tag, so they lie on one node of a cluster. The tag has the model's name and its labels
but not its bundle: in a rollout the replicas of both bundles answer one queue, and a bundle that goes leaves no job
behind that nobody answers. Replicas whose bundle has other labels share nothing with them.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from predictor.errors import one_line
from predictor.serving.jobs import scripts
from predictor.serving.jobs.chunks import Pieces, pack_starts
from predictor.serving.jobs.estimate import Lane

LaneName = Literal["small", "bulk"]
LANES: tuple[LaneName, LaneName] = ("small", "bulk")

EXPIRY_SECONDS = 24 * 3600
"""How long a job is kept after it was submitted, and after each chunk that was answered."""
# A replica that has not been heard of for so long does not count in estimates.
_GONE_SECONDS = 30
# A chunk's turn is waited for so long, then again.
_BLOCK_MS = 1000


@dataclass(frozen=True)
class Entry:
    """A chunk's entry in a stream. Others may write there, too: nothing in it is to be relied on."""

    lane: LaneName
    id: str
    job: str
    chunk: int
    """-1 where the entry has none."""
    texts: int
    deliveries: int = 1
    """How often it was given to a replica, this time included."""

    @property
    def sound(self) -> bool:
        """Whether it names a chunk of a job."""
        return is_id(self.job) and self.chunk >= 0


@dataclass(frozen=True)
class Begun:
    """A chunk that is to be answered."""

    texts: bytes | None
    starts: bytes | None
    client: str


@dataclass(frozen=True)
class Backlog:
    """What waits or runs."""

    small: Lane
    bulk: Lane

    def lane(self, name: str) -> Lane:
        """Return a lane by its name."""
        return self.bulk if name == "bulk" else self.small

    def other(self, name: str) -> Lane:
        """Return the lane that takes turns with it."""
        return self.small if name == "bulk" else self.bulk


@dataclass(frozen=True)
class Look:
    """A job as Redis has it, and what is around it."""

    fields: dict[str, bytes | None]
    backlog: Backlog
    rates: list[float]


class JobStore:
    """The steps.

    All of them raise `redis.exceptions.RedisError` where Redis is away, or refuses.

    Args:
        redis: the client; its owner closes it.
        model: the model's name.
        labels: the classes, in the order of a row.
        expiry: seconds that jobs are kept.
    """

    def __init__(self, redis: Redis, model: str, labels: Sequence[str], expiry: int = EXPIRY_SECONDS) -> None:
        self._redis = redis
        self._expiry = expiry
        self.tag = f"{{pigeonhole:{model}:{hashlib.sha256(orjson.dumps(list(labels))).hexdigest()[:12]}}}"
        self._streams = {lane: f"{self.tag}:{lane}" for lane in LANES}
        self._counts, self._replicas, self._dead = (f"{self.tag}:{name}" for name in ("counts", "replicas", "dead"))
        self._scripts = {
            name: redis.register_script(getattr(scripts, name))
            for name in ("SUBMIT", "BEGIN", "FINISH", "CANCEL", "LOOK", "BEAT", "LEAVE")
        }

    async def submit(self, job: str, client: str, pieces: Pieces, bulk: bool, most: int) -> bool:
        """Store a job and queue its chunks; False where the client has `most` open ones."""
        lane = LANES[bulk]
        about = [job, _hashed(client), pieces.starts[-1], pack_starts(pieces.starts), lane, most, self._expiry]
        for size, blob in zip(pieces.sizes, pieces.blobs, strict=True):
            about += [size, blob]
        keys = [self._job(job), self._texts(job), self._open(_hashed(client)), self._streams[lane], self._counts]
        return bool(await self._run("SUBMIT", keys, about))

    async def look(self, job: str, client: str) -> Look | None:
        """Return a job of a client; None where there is no such job."""
        keys = [self._job(job), *self._streams.values(), self._counts, self._replicas]
        values, lengths, counts, replicas, now = await self._run("LOOK", keys, [])
        names = ("client", "state", "lane", "total", "done", "failed", "position", "starts")
        fields = dict(zip(names, values, strict=True))
        if fields["client"] != _hashed(client).encode():
            return None
        rates = [rate for text in replicas if (rate := _rate(text, now))]
        return Look(fields, _backlog(lengths, counts), rates)

    async def results(self, job: str, chunks: Iterable[int]) -> list[bytes | None]:
        """Return the results of chunks, None for those that are not there."""
        command: Any = self._redis.hmget(self._results(job), [str(chunk) for chunk in chunks])
        found: list[bytes | None] = await command
        return found

    async def cancel(self, job: str, client: str) -> bool:
        """Cancel a job that is queued or running, and say whether it was one."""
        keys = [self._job(job), self._texts(job), self._results(job), self._open(_hashed(client))]
        return bool(await self._run("CANCEL", keys, [job]))

    async def read(self, replica: str) -> list[Entry]:
        """Wait a moment for chunks and take at most one of each lane, so that neither lane starves the other."""
        streams: Any = dict.fromkeys(self._streams.values(), ">")
        try:
            found: Any = await self._redis.xreadgroup(scripts.GROUP, replica, streams, count=1, block=_BLOCK_MS)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            await asyncio.sleep(_BLOCK_MS / 10_000)  # the next heartbeat makes the group
            return []
        lanes = {stream.encode(): lane for lane, stream in self._streams.items()}
        return [_entry(lanes[stream], id_, fields) for stream, entries in found or [] for id_, fields in entries]

    async def begin(self, entry: Entry) -> Begun | None:
        """Return what a chunk needs; None where nobody waits for its answer, and the entry is gone then."""
        keys = [self._job(entry.job), self._texts(entry.job), self._results(entry.job)]
        keys += [self._streams[entry.lane], self._counts]
        about = [entry.lane, entry.id, entry.texts, entry.chunk, self._expiry]
        found = await self._run("BEGIN", keys, about)
        if found is None:
            return None
        texts, starts, client = found
        return Begun(texts, starts, (client or b"").decode("ascii", "replace"))

    async def finish(
        self, entry: Entry, client: str, results: bytes, rows: int, failed: int, reason: str = ""
    ) -> tuple[str, bool]:
        """Store a chunk's results unless they are there, or nobody wants them, and take its entry off the stream.

        Args:
            entry: the chunk's.
            client: as `begin` returned it.
            results: packed.
            rows: how many texts they are of; 0 where it is no chunk of the job, -1 where the job itself is damaged,
                and is to be removed.
            failed: how many of these have no answer.
            reason: why the chunk is a dead letter; empty where it is none.

        Returns:
            'stored', 'done' where it was the job's last chunk or 'dropped', and whether a dead letter was made.
        """
        keys = [self._job(entry.job), self._texts(entry.job), self._results(entry.job), self._open(client)]
        keys += [self._streams[entry.lane], self._counts, self._dead]
        about = [entry.lane, entry.id, entry.texts, entry.chunk, results, rows, failed, self._expiry, entry.job, reason]
        outcome, buried = await self._run("FINISH", keys, about)
        return outcome.decode(), bool(buried)

    async def beat(
        self, replica: str, rate: float, held: Sequence[Entry], room: int, idle: float
    ) -> tuple[list[Entry], Backlog]:
        """Keep the chunks that a replica holds, and give it up to `room` that others have not kept for `idle` seconds.

        Returns:
            these chunks, and what waits or runs.
        """
        keys = [*self._streams.values(), self._counts, self._replicas]
        about: list[Any] = [replica, f"{rate:.3f}", round(idle * 1000), room, _GONE_SECONDS]
        for lane in LANES:
            ids = [entry.id for entry in held if entry.lane == lane]
            about += [len(ids), *ids]
        taken, lengths, counts = await self._run("BEAT", keys, about)
        entries = []
        for number, id_, flat, deliveries in taken:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            entries.append(_entry(LANES[number - 1], id_, fields, deliveries))
        return entries, _backlog(lengths, counts)

    async def leave(self, replica: str, held: Sequence[Entry]) -> None:
        """Let others have what a replica holds."""
        about: list[Any] = [replica]
        for lane in LANES:
            ids = [(entry.id, entry.deliveries - 1) for entry in held if entry.lane == lane]
            about += [len(ids), *(value for pair in ids for value in pair)]
        await self._run("LEAVE", [*self._streams.values(), self._replicas], about)

    async def _run(self, script: str, keys: Sequence[str], about: Sequence[Any]) -> Any:
        return await self._scripts[script](keys, about)

    def _job(self, job: str) -> str:
        return f"{self.tag}:job:{job}"

    def _texts(self, job: str) -> str:
        return f"{self.tag}:texts:{job}"

    def _results(self, job: str) -> str:
        return f"{self.tag}:results:{job}"

    def _open(self, client: str) -> str:
        return f"{self.tag}:open:{client}"


def _hashed(client: str) -> str:
    """Return what stands for a client in Redis, which need not know what its token is."""
    return hashlib.sha256(client.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _entry(lane: LaneName, id_: bytes, fields: dict[bytes, bytes], deliveries: int = 1) -> Entry:
    job = fields.get(b"job", b"").decode("ascii", "replace")
    job = one_line(job, 64)  # it goes into the name of a key
    return Entry(lane, id_.decode(), job, _number(fields.get(b"chunk"), -1), _number(fields.get(b"texts")), deliveries)


def is_id(job: str) -> bool:
    """Whether a job can have such an id."""
    return len(job) == 32 and set(job) <= set("0123456789abcdef")


def _number(value: bytes | None, otherwise: int = 0) -> int:
    return int(value) if value and len(value) < 16 and value.isdigit() else otherwise


def _backlog(lengths: Sequence[int], counts: Sequence[bytes | None]) -> Backlog:
    small_in, small_out, bulk_in, bulk_out = map(_number, counts)
    return Backlog(Lane(lengths[0], small_in, small_out), Lane(lengths[1], bulk_in, bulk_out))


def _rate(text: bytes, now: int) -> float:
    """Return the rate that a replica published; 0 where it has none, or has not been heard of lately."""
    since, _, rate = text.partition(b" ")
    try:
        return float(rate) if int(since) + _GONE_SECONDS >= now and 0 < float(rate) < 1e9 else 0.0
    except ValueError:
        return 0.0
