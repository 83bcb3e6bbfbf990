"""What the prediction log costs: the same server with and without it, in turns, on the same texts.

    make bench-log                                        # a bundle and texts of the sample
    make bench-log DATA=path/to/folder BUNDLE=path/to/bundle ROUNDS=8 SECONDS=10 CASCADE=off

All servers run all the time, and one of them is asked at a time, in an order that turns with every round, so that a
machine that gets slower or busier counts for all. The log goes to a local folder and is flushed every two seconds,
five times as often as by default. Every request is logged, with its text, and our server keeps no answers. The
processor time of a request says what the log costs where others use the machine, too. A third server logs to object
storage that takes connections and says nothing, from its first turn to its last.
"""

import argparse
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import psutil
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from predictor.serving.metrics import Metrics
from predictor.serving.prediction_log.log import LogSettings, PredictionLog, new_id
from predictor.serving.prediction_log.parts import Answer, Source
from predictor.serving.prediction_log.redaction import Redaction
from tests.benchmarks.serve import bundle_at, ours, texts_of
from tests.benchmarks.serving.load import Load
from tests.benchmarks.serving.rounds import SCRATCH, Send, client, served
from tests.benchmarks.serving.servers import OURS, WITHOUT_CASCADE, Running, Server
from tests.benchmarks.table import Row, publish, row

CLIENTS = 32
MOST_COST = 0.02
"""Share of the throughput that the log may cost."""
DRAWS = 2000
RECORDS = 5000


@dataclass(frozen=True)
class Turn:
    """One server's turn."""

    rate: float
    """Requests a second."""
    p99: float
    """Seconds."""
    cpu: float
    """Seconds of the server's processor time for a request."""
    errors: int


THROUGHPUT = "throughput with 32 clients"
_FIGURES: list[tuple[str, str, Callable[[Turn], float]]] = [
    (THROUGHPUT, "requests/s", lambda turn: turn.rate),
    ("processor time of a request", "ms", lambda turn: 1e3 * turn.cpu),
    ("p99 with 32 clients", "ms", lambda turn: 1e3 * turn.p99),
]


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", default="sample", help="as for pigeonhole run; its test rows are asked")
    parser.add_argument("--bundle", default="", help="a bundle; empty: one is trained on the sample")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a turn")
    parser.add_argument("--cascade", choices=["on", "off"], default="on", help="off: the transformer answers all texts")
    asked = parser.parse_args()
    server = OURS if asked.cascade == "on" else WITHOUT_CASCADE
    texts, bundle = texts_of(asked.data).all, bundle_at(asked.bundle)
    folder = (SCRATCH / "log").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    logging = _logging(server, "with a log", str(folder))
    hanging = _logging(server, "with a log that hangs", "s3://bucket/log")
    with (
        client() as send,
        served(ours(bundle, server)) as without,
        served(ours(bundle, logging)) as with_log,
        _silent_storage(),
        served(ours(bundle, hanging)) as hung,
    ):
        all_of_them = (without, with_log, hung)
        for running in all_of_them:
            _turn(send, running, texts, asked.seconds)
        rounds = []
        for number in range(asked.rounds):
            order = all_of_them if number % 2 else reversed(all_of_them)
            turns = {running.port: _turn(send, running, texts, asked.seconds) for running in order}
            rounds.append(tuple(turns[running.port] for running in all_of_them))
            rates = ", ".join(f"{turn.rate:.1f}" for turn in rounds[-1])
            print(f"round {number + 1}: {rates} requests/s", flush=True)
    quiet, logged, stuck = zip(*rounds, strict=True)
    record = _record(texts, float(np.median([turn.cpu for turn in quiet])))
    publish("log", [*_rows("a log", quiet, logged), record, *_rows("a log that hangs", quiet, stuck)])
    print(f"{sum(file.stat().st_size for file in folder.rglob('*.gz')):,} bytes of log in {folder}")


def _logging(server: Server, name: str, url: str) -> Server:
    """Return a server of ours with a log."""
    options = ["--log-url", url, "--log-interval", "2"]
    return replace(server, name=name, command=lambda place, setting: [*server.command(place, setting), *options])


@contextmanager
def _silent_storage() -> Iterator[None]:
    """Let servers that are started here find object storage that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
        os.environ.update(dict.fromkeys(names, "none"), AWS_ENDPOINT_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
        yield


def _turn(send: Send, running: Running, texts: list[str], seconds: float) -> Turn:
    process = psutil.Process(running.pid)
    requests = running.requests([[text] for text in texts])
    before = sum(process.cpu_times()[:2])
    got = send(Load(running.host, running.port, requests, CLIENTS, seconds))
    spent = sum(process.cpu_times()[:2]) - before
    return Turn(got.rate, got.quantile(0.99), spent / max(1, len(got.latencies)), sum(got.errors.values()))


def _rows(with_what: str, without: tuple[Turn, ...], turns: tuple[Turn, ...]) -> list[Row]:
    rows = []
    for what, unit, read in _FIGURES:
        ours_, others = (np.array([read(turn) for turn in some]) for some in (turns, without))
        costs = 1 - ours_ / others if what is THROUGHPUT else ours_ / others - 1
        low, high = _interval(costs)
        goal = MOST_COST if what is THROUGHPUT else None
        rows.append(
            row(f"with {with_what}: {what}", unit, float(np.median(ours_)), float(np.median(others)), "without a log",
                value=float(np.median(costs)), goal=goal, at_most=True)
        )  # fmt: skip
        rows.append(row(f"with {with_what}: {what}: the cost lies between", "", low))
        rows.append(row(f"with {with_what}: {what}: and", "", high))
    failed = sum(turn.errors for turn in (*without, *turns))
    return [*rows, row(f"with {with_what}: failed requests", "", failed, goal=0, at_most=True)]


def _record(texts: list[str], request: float) -> Row:
    """Measure the processor time of a record by itself, in this process, against that of a request without a log."""
    labels, folder = ["one", "two", "three", "four"], SCRATCH / "records"
    rows = np.array([[0.7, 0.1, 0.1, 0.1]], dtype=np.float32)
    source = Source("r", "ab" * 32, labels, Redaction.NONE)
    logged = PredictionLog(LogSettings(str(folder)), "m", source, Metrics("m", "r", labels, [8], CollectorRegistry()))
    started = time.process_time()
    for text in (chosen := (texts * (RECORDS // len(texts) + 1))[:RECORDS]):
        trace = logged.trace(new_id(), 1)
        assert trace is not None
        trace.cleaned[0] = text
        logged.answered(Answer(new_id(), time.time(), [text], rows, trace), lambda *_: None)
    logged.start()
    logged.close()
    spent = (time.process_time() - started) / len(chosen)
    return row(
        "processor time of a record by itself", "ms", 1e3 * spent, 1e3 * request, "a request without a log",
        value=spent / request, goal=MOST_COST, at_most=True,
    )  # fmt: skip


def _interval(costs: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95% interval of the median of paired costs: percentile bootstrap over the rounds."""
    draws = np.random.default_rng(0).choice(costs, (DRAWS, len(costs)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
