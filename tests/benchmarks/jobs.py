"""Asynchronous jobs of two replicas over a real Redis: how fast, how much others wait, and what failures do to them.

    make bench-jobs                                        # a bundle and texts of the sample
    make bench-jobs DATA=path/to/folder BUNDLE=path/to/bundle TEXTS=2000

Half of the texts are answered undisturbed, while single calls and calls for a job's status come in at a fixed rate, and
compared with the engine without a server, measured before and after on the same cores. The other half is answered while
a replica is killed with -9 and started again, Redis is restarted, and the network in front of it is cut, each once.
Then all results are read. Texts differ from each other; cascade and caches are off, but where caches are measured.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import httpx
import numpy as np
from redis import Redis

from predictor.model.bundle import Bundle
from predictor.model.classifier import BATCH
from tests.benchmarks.serve import bundle_at, ours, texts_of
from tests.benchmarks.serving.bare import run_bare
from tests.benchmarks.serving.load import Load, Outcome, drive, get
from tests.benchmarks.serving.rounds import CALL, CALLERS
from tests.benchmarks.serving.servers import WITHOUT_CASCADE, Running, Server, started
from tests.benchmarks.table import Row, publish, row
from tests.benchmarks.tcp_proxy import Proxy, proxy_to
from tests.redis_server import RedisServer, running

FOLDER = Path("bench/jobs")
JOB = 10_000
"""Texts of a job: the most that surely fit into one request body."""
SINGLES, STATUSES = 4.0, 10.0
"""Calls a second beside the jobs."""
AWAY = 5.0
"""Seconds that Redis is stopped, and that the network is cut."""
LEAST_SHARE, MOST_SINGLE, MOST_STATUS, LEAST_CACHED = 0.85, 500.0, 20.0, 20.0
PAGE = 5000
_PATIENCE = 120.0
"""Seconds without any progress after which jobs are given up."""


class Replicas:
    """Two servers of one Redis.

    Args:
        bundle: what they serve.
        options: more options of `pigeonhole serve`.
    """

    def __init__(self, bundle: Path, *options: str) -> None:
        self._peer = ours(bundle, _with(*options))
        self._stacks: dict[int, ExitStack] = {}
        self.running: dict[int, Running] = {}

    def start(self, number: int) -> None:
        """Start a server, or start it again."""
        stack = self._stacks[number] = ExitStack()
        peer, place = self._peer, FOLDER / f"replica-{number}"
        self.running[number] = stack.enter_context(started(peer.server, peer.python, peer.weights, place, peer.setting))

    def kill(self, number: int) -> None:
        """Kill a server with -9."""
        os.kill(self.running[number].pid, signal.SIGKILL)
        self._stacks[number].close()

    def close(self) -> None:
        """End both."""
        for stack in self._stacks.values():
            stack.close()


def _with(*options: str) -> Server:
    """Return our server without a cascade, with more options."""
    return replace(WITHOUT_CASCADE, command=lambda place, setting: [*WITHOUT_CASCADE.command(place, setting), *options])


class Caller:
    """Sends jobs to the replicas in turn, and asks again where one does not answer."""

    def __init__(self, replicas: Replicas, verb: str) -> None:
        self._replicas = replicas
        self._path = f"/v1/{verb}"
        self._turn = itertools.count()
        self._client = httpx.Client(timeout=30)

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Ask until a replica answers."""
        until = time.monotonic() + _PATIENCE
        while True:
            server = self._replicas.running[next(self._turn) % 2]
            try:
                got = self._client.request(method, f"http://{server.host}:{server.port}{self._path}{path}", json=body)
                if got.status_code not in (429, 500, 503):
                    return got.raise_for_status()
            except httpx.TransportError:
                pass
            if time.monotonic() > until:
                raise RuntimeError(f"no replica answers {method} {path}")
            time.sleep(0.2)

    def submit(self, texts: list[str]) -> list[str]:
        """Submit texts as jobs, and return their ids."""
        groups = (texts[start : start + JOB] for start in range(0, len(texts), JOB))
        return [self.ask("POST", "/batch", {"texts": group, "async": True}).json()["request_id"] for group in groups]

    def done(self, jobs: list[str]) -> int:
        """Return how many texts of jobs are done."""
        return sum(int(self.ask("GET", f"/status/{job}").json()["done"]) for job in jobs)

    def path(self, job: str) -> str:
        """Return where a job's status is."""
        return f"{self._path}/status/{job}"

    def rows(self, job: str) -> list[dict[str, object]]:
        """Return all rows of a job's results."""
        lines: list[str] = []
        total = self.ask("GET", f"/status/{job}").json()["total"]
        for offset in range(0, total, PAGE):
            lines += self.ask("GET", f"/results/{job}?offset={offset}&limit={PAGE}").text.splitlines()
        return [json.loads(line) for line in lines]


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", default="sample", help="as for pigeonhole run; its test rows are asked")
    parser.add_argument("--bundle", default="", help="a bundle; empty: one is trained on the sample")
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a measurement of the engine, or of a cache")
    asked = parser.parse_args()
    bundle, some = bundle_at(asked.bundle), texts_of(asked.data).all
    texts = [f"{text} {number}" for number, text in zip(range(asked.texts), itertools.cycle(some), strict=False)]
    spec = Bundle.open(bundle).spec
    verb = spec.answer.verb if hasattr(spec, "answer") else "classify"
    shutil.rmtree(FOLDER, ignore_errors=True)
    rows = []
    with running(FOLDER / "redis") as redis, proxy_to(redis.port) as proxy:
        replicas = Replicas(bundle, "--redis-url", f"redis://127.0.0.1:{proxy.port}/0")
        try:
            before = _engine(bundle, texts, asked.seconds)
            for number in range(2):
                replicas.start(number)
            caller = Caller(replicas, verb)
            half = len(texts) // 2
            undisturbed, jobs, beside = _undisturbed(caller, replicas, texts[:half])
            print(f"{undisturbed:.1f} texts/s undisturbed", flush=True)
            jobs += _disturbed(caller, replicas, redis, proxy, texts[half:])
            rows += _answered_once(caller, jobs, texts, redis)
        finally:
            replicas.close()
    raw = statistics.median([before, _engine(bundle, texts, asked.seconds)])
    first = row(
        "texts of jobs, two replicas", "texts/s", undisturbed, raw, "the engine without a server",
        value=undisturbed / raw, goal=LEAST_SHARE,
    )  # fmt: skip
    publish("jobs", [first, *_waits(beside), *rows, *_caches(bundle, texts, asked.seconds)])


def _engine(bundle: Path, texts: list[str], seconds: float) -> float:
    """Return what the engine does by itself, ids ready, all lanes at work."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        rate = process.submit(run_bare, bundle, texts[: 200 * BATCH], seconds).result().ids_ready
    print(f"{rate:.1f} texts/s in the engine without a server", flush=True)
    return rate


def _undisturbed(
    caller: Caller, replicas: Replicas, texts: list[str]
) -> tuple[float, list[str], tuple[Outcome, Outcome]]:
    """Answer texts as jobs beside single calls and calls for status; return texts a second, the jobs, and both."""
    singles = [f"a single call number {number} about {text}" for number, text in enumerate(texts[:2000])]
    one, other = replicas.running[0], replicas.running[1]
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        for process in [processes.submit(int) for _ in range(2)]:
            process.result()  # they are started by now
        started_at = time.perf_counter()
        jobs = caller.submit(texts)
        # Loads end by themselves; most of the jobs' time is known only afterwards, so they come in short rounds.
        status = get(other.host, caller.path(jobs[-1]))
        rounds: list[tuple[Outcome, Outcome]] = []
        while caller.done(jobs) < len(texts):
            loads = (
                Load(one.host, one.port, one.requests([[text] for text in singles]), 8, 5.0, rate=SINGLES),
                Load(other.host, other.port, [status], 4, 5.0, rate=STATUSES),
            )
            asked = [processes.submit(drive, load) for load in loads]
            while not all(load.done() for load in asked) and caller.done(jobs) < len(texts):
                time.sleep(0.1)
            if caller.done(jobs) == len(texts):
                rate = len(texts) / (time.perf_counter() - started_at)
            first, second = (load.result() for load in asked)
            rounds.append((first, second))
    return rate, jobs, (_together([one for one, _ in rounds]), _together([two for _, two in rounds]))


def _together(outcomes: list[Outcome]) -> Outcome:
    errors: Counter[str] = Counter()
    for outcome in outcomes:
        errors.update(outcome.errors)
    return replace(outcomes[0], latencies=np.concatenate([o.latencies for o in outcomes]), errors=dict(errors))


def _disturbed(caller: Caller, replicas: Replicas, redis: RedisServer, proxy: Proxy, texts: list[str]) -> list[str]:
    """Answer texts as jobs, with a failure after each quarter of them."""

    def kill() -> None:
        replicas.kill(0)
        replicas.start(0)

    def restart() -> None:
        redis.stop()
        time.sleep(AWAY)
        redis.start()

    def cut() -> None:
        proxy.cut(True)
        time.sleep(AWAY)
        proxy.cut(False)

    jobs = caller.submit(texts)
    failures: list[tuple[str, Callable[[], None]]] = [("kill -9", kill), ("Redis restarted", restart), ("cut", cut)]
    for quarter, (name, fail) in enumerate(failures, 1):
        _until(caller, jobs, quarter * len(texts) // 4)
        print(f"{name} after {caller.done(jobs)} of {len(texts)} texts", flush=True)
        fail()
    _until(caller, jobs, len(texts))
    return jobs


def _until(caller: Caller, jobs: list[str], texts: int) -> None:
    done, since = -1, time.monotonic()
    while (now := caller.done(jobs)) < texts:
        if now != done:
            done, since = now, time.monotonic()
        if time.monotonic() - since > _PATIENCE:
            raise RuntimeError(f"nothing is answered any more after {done} texts")
        time.sleep(0.2)


def _waits(beside: tuple[Outcome, Outcome]) -> list[Row]:
    singles, statuses = beside
    failed = sum(singles.errors.values()) + sum(statuses.errors.values())
    return [
        row("p99 of single calls beside jobs", "ms", 1e3 * singles.quantile(0.99), goal=MOST_SINGLE, at_most=True),
        row("median of single calls beside jobs", "ms", 1e3 * singles.quantile(0.5)),
        row("p99 of calls for a status", "ms", 1e3 * statuses.quantile(0.99), goal=MOST_STATUS, at_most=True),
        row("failed calls beside jobs", "", failed, goal=0, at_most=True),
    ]


def _answered_once(caller: Caller, jobs: list[str], texts: list[str], redis: RedisServer) -> list[Row]:
    """Read all results, and count texts without an answer or with more than one."""
    wrong = answered = 0
    for job in jobs:
        found = caller.rows(job)
        answered += sum("error" not in one for one in found)
        wrong += [one["number"] for one in found] != list(range(len(found)))
    with Redis.from_url(redis.url) as client:
        left = sum(client.xlen(key) for name in ("small", "bulk") for key in client.scan_iter(f"*:{name}"))
    return [
        row("texts without an answer, after all failures", "", len(texts) - answered, goal=0, at_most=True),
        row("jobs whose rows are not each text once", "", wrong, goal=0, at_most=True),
        row("chunks left in the streams", "", left, goal=0, at_most=True),
    ]


def _caches(bundle: Path, texts: list[str], seconds: float) -> list[Row]:
    """Measure answers from the caches against answers of the engine, 64 texts a call."""
    few = texts[: 32 * CALL]
    calls = [few[start : start + CALL] for start in range(0, len(few), CALL)]

    def rate(server: Running, once: bool) -> float:
        load = Load(server.host, server.port, server.requests(calls), CALLERS, 0.0 if once else seconds)
        return CALL * drive(load).rate

    with running(FOLDER / "cache") as redis:
        pair = Replicas(bundle, "--cache-entries", "10000", "--redis-url", redis.url)
        try:
            pair.start(0)  # it has answered a text by then, and knows Redis
            computed = rate(pair.running[0], once=True)
            memory = rate(pair.running[0], once=False)
            pair.kill(0)
            pair.start(1)
            shared = rate(pair.running[1], once=True)
        finally:
            pair.close()
    return [
        row("texts from the cache in memory", "texts/s", memory, computed, "the engine", value=memory / computed,
            goal=LEAST_CACHED),
        row("texts from the cache in Redis", "texts/s", shared, computed, "the engine", value=shared / computed),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
