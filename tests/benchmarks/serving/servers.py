"""A server that is compared: how it is started, asked and ended."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import orjson
import psutil

from tests.benchmarks.serving.load import Load, drive, get, post
from tests.ports import free_port

MODEL = "classifier"
HOST = "127.0.0.1"
_START_SECONDS = 300

Engine = Literal["fp32", "bf16", "ONNX fp32", "ONNX int8"]
"""What computes: PyTorch, or ONNX Runtime."""


class Unavailable(Exception):
    """A server that cannot run here: one sentence that says why."""


@dataclass(frozen=True)
class Setting:
    """One way to run a server."""

    threads: int = 2
    """Of the matrix library, in each worker."""
    batch: int = 1
    """Texts that the server may gather; 1: it does not."""
    wait_ms: int = 0
    """Milliseconds it may wait for them."""
    engine: Engine = "fp32"
    workers: int = 1

    def __str__(self) -> str:
        gathered = f", {self.batch} texts / {self.wait_ms} ms" if self.batch > 1 else ""
        workers = f"{self.workers} x " if self.workers > 1 else ""
        return f"{workers}{self.threads} threads{gathered}{'' if self.engine == 'fp32' else f', {self.engine}'}"


@dataclass(frozen=True)
class Place:
    """Where a server is started."""

    python: Path
    weights: Path
    """The bundle, or the copy of it that the peers read."""
    port: int
    scratch: Path

    def file(self, name: str, content: object) -> None:
        """Write a file of settings as JSON."""
        (self.scratch / name).write_bytes(orjson.dumps(content))


@dataclass(frozen=True)
class Server:
    """A kind of server."""

    name: str
    command: Callable[[Place, Setting], list[str]]
    path: str
    body: Callable[[Sequence[str]], object]
    """The JSON of a request."""
    health: str
    many: bool = True
    """Whether a request may hold more than one text."""
    settings: tuple[Setting, ...] = (Setting(),)
    """Those worth trying."""
    packages: tuple[str, ...] = ()
    """What pip installs for it; none: it runs where the benchmark does."""
    without: str = ""
    """A package that comes with them and breaks it."""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    server: Server
    host: str
    port: int
    pid: int = 0
    """0: somebody else's."""

    def requests(self, calls: Sequence[Sequence[str]]) -> list[bytes]:
        """Return a request for each group of texts."""
        return [post(self.host, self.server.path, orjson.dumps(self.server.body(texts))) for texts in calls]

    @property
    def probe(self) -> bytes:
        """A request for its health."""
        return get(self.host, self.server.health)

    @property
    def resident(self) -> int:
        """Bytes of memory of all its processes."""
        process = psutil.Process(self.pid)
        return int(sum(part.memory_info().rss for part in (process, *process.children(recursive=True))))


def _ours(place: Place, setting: Setting) -> list[str]:
    return [
        str(place.python), "-m", "pipelines.cli", "serve", str(place.weights), "--model-name", MODEL,
        "--http-port", str(place.port), "--grpc-port", str(free_port()), "--cache-entries", "0",
    ]  # fmt: skip


def tensor(name: str) -> Callable[[Sequence[str]], object]:
    return lambda texts: {"inputs": [{"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}]}


OURS = Server(
    "ours", _ours, f"/v1/models/{MODEL}:predict", lambda texts: {"instances": list(texts)}, "/v2/health/ready"
)
WITHOUT_CASCADE = replace(
    OURS, name="ours without its cascade", command=lambda place, setting: [*_ours(place, setting), "--cascade", "off"]
)


def elsewhere(url: str) -> Running:
    """Return a server that runs already; the path says which protocol it speaks.

    Raises:
        Unavailable: the path is of no protocol that is known here.
    """
    parts = urlsplit(url)
    bodies: dict[str, tuple[Callable[[Sequence[str]], object], str]] = {
        ":predict": (OURS.body, "/"),
        "/infer": (tensor("text"), "/v2/health/ready"),
        "/predict": (lambda texts: {"inputs": [[text] for text in texts]}, "/health"),
    }
    for ending, (body, health) in bodies.items():
        if parts.hostname and parts.path.endswith(ending):
            server = Server(url, lambda place, setting: [], parts.path, body, health)
            return Running(server, parts.hostname, parts.port or 80)
    raise Unavailable(f"{url} ends in none of {', '.join(bodies)}: give the whole address of V1, V2 or TEI")


@contextlib.contextmanager
def started(server: Server, python: Path, weights: Path, scratch: Path, setting: Setting) -> Iterator[Running]:
    """Start a server, wait until it answers a text, and end it.

    Raises:
        Unavailable: it ends, or does not answer in time.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    place = Place(python, weights.absolute(), free_port(), scratch.absolute())
    threads = str(setting.threads)
    environment = {
        **os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    if server.packages:
        environment.pop("PYTHONPATH", None)
    log = scratch / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            server.command(place, setting), stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
    try:
        running = Running(server, HOST, place.port, process.pid)
        _wait(running, process, log)
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(running: Running, process: "subprocess.Popen[bytes]", log: Path) -> None:
    request = running.requests([["is anybody there?"]])
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Unavailable(f"it ended with {process.returncode}: {last_line(log.read_text())}")
        with contextlib.suppress(OSError):
            if not drive(Load(running.host, running.port, request, 1)).errors:
                return
        time.sleep(0.2)
    raise Unavailable(f"it did not answer within {_START_SECONDS} s: {last_line(log.read_text())}")


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:200]
