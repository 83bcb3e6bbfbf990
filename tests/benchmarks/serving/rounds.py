"""What is done with each server in a round, always on a fresh process."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.serving.bare import one_by_one
from tests.benchmarks.serving.load import Load, Outcome, drive
from tests.benchmarks.serving.peers import installed
from tests.benchmarks.serving.servers import Running, Server, Setting, Unavailable, started

SCRATCH = Path("bench/serve")
CALL = 64
"""Texts of a large request."""
MANY, CALLERS, CROWD = 32, 4, 256
"""Clients with one text a call, with many texts a call, and to see health under pressure."""
STEADY = 0.8
"""Share of its own throughput at which a server is asked at a fixed rate."""

Send = Callable[[Load], Outcome]


@dataclass(frozen=True)
class Texts:
    """What is asked."""

    all: list[str]
    lone: list[str]
    """Those of the single client, evenly drawn."""

    @property
    def calls(self) -> list[list[str]]:
        """Groups of 64 texts; the last is filled up from the start."""
        endless = itertools.cycle(self.all)
        return [list(itertools.islice(endless, CALL)) for _ in range(0, len(self.all), CALL)]


@dataclass(frozen=True)
class Measured:
    """One round of one server."""

    one: Outcome
    many: Outcome
    steady: Outcome
    """At a fixed rate, 80% of `many`."""
    crowd: Outcome
    calls: Outcome | None
    """64 texts a call; none where the server takes one text only."""
    resident: int
    """Bytes of memory at the end; 0 where the process is somebody else's."""

    @property
    def errors(self) -> dict[str, int]:
        """Failed requests of all phases but the crowd's, where a refusal is a right answer."""
        total: dict[str, int] = {}
        for outcome in (self.one, self.many, self.steady, self.calls):
            for code, count in (outcome.errors if outcome else {}).items():
                total[code] = total.get(code, 0) + count
        return total


@contextmanager
def client() -> Iterator[Send]:
    """Give a way to send loads from another process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        yield lambda load: process.submit(drive, load).result()


def measure(send: Send, running: Running, texts: Texts, seconds: float) -> Measured:
    """Warm a server up and put it through each phase, `seconds` long each."""
    host, port = running.host, running.port
    singles = running.requests([[text] for text in texts.all])
    send(Load(host, port, singles, MANY, seconds / 2))
    one = send(Load(host, port, running.requests([[text] for text in texts.lone]), 1, seconds))
    many = send(Load(host, port, singles, MANY, seconds, probe=running.probe))
    steady = send(Load(host, port, singles, CROWD, seconds, rate=max(1.0, STEADY * many.rate)))
    calls = send(Load(host, port, running.requests(texts.calls), CALLERS, seconds)) if running.server.many else None
    crowd = send(Load(host, port, singles, CROWD, seconds, probe=running.probe))
    return Measured(one, many, steady, crowd, calls, running.resident if running.pid else 0)


@dataclass(frozen=True)
class Lone:
    """Seconds of single texts, each asked when the one before is answered, of shape (passes, texts)."""

    ours: NDArray[np.float64]
    bare: NDArray[np.float64]
    """The engine without a server."""


def lone(send: Send, running: Running, bundle: Path, texts: list[str], passes: int) -> Lone:
    """Ask the server and the bare engine in turns, so that what slows the machine down slows both."""
    requests = running.requests([[text] for text in texts])
    send(Load(running.host, running.port, requests, 1))
    ours, bare = [], []
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        for _ in range(passes):
            bare.append(process.submit(one_by_one, bundle, texts).result())
            got = send(Load(running.host, running.port, requests, 1))
            ours.append(got.latencies[np.argsort(got.numbers)])
    return Lone(np.array(ours), np.array(bare))


@dataclass(frozen=True)
class Peer:
    """A peer that runs here, in its best setting."""

    server: Server
    python: Path
    weights: Path
    setting: Setting

    @property
    def name(self) -> str:
        """The server, and how it is set where it does not set itself."""
        return f"{self.server.name}, {self.setting}" if self.server.packages else self.server.name


def served(peer: Peer) -> AbstractContextManager[Running]:
    """Start a peer, and end it at the end of the block."""
    return started(peer.server, peer.python, peer.weights, SCRATCH / "run", peer.setting)


def best_setting(send: Send, key: str, server: Server, weights: Path, texts: Texts, seconds: float) -> Peer:
    """Try each setting with 32 clients for a moment, and return the peer in that which answers most.

    Raises:
        Unavailable: the peer cannot be installed, or starts in none of its settings.
    """
    python = installed(key)
    rates: dict[Setting, float] = {}
    reason = ""
    for setting in server.settings:
        try:
            with started(server, python, weights, SCRATCH / key, setting) as running:
                load = Load(running.host, running.port, running.requests([[text] for text in texts.all]), MANY, seconds)
                outcomes = [send(load) for _ in range(2)]  # the first warms up
            rates[setting] = outcomes[1].rate
            print(f"  {rates[setting]:7.1f} requests/s  {server.name}, tried with {setting}", flush=True)
        except Unavailable as error:
            reason = str(error)
            print(f"  {server.name} with {setting}: {reason}", flush=True)
    if not rates:
        raise Unavailable(reason)
    return Peer(server, python, weights, max(rates, key=lambda setting: rates[setting]))
