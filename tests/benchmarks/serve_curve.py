"""Throughput, latency and queue against the number of clients: what the knobs of autoscaling are read from.

    make bench-serve-curve                                        # a bundle and texts of the sample
    make bench-serve-curve DATA=path/to/folder BUNDLE=path/to/bundle

Each client sends its next text when the one before is answered. Our server keeps no answers here.
"""

import argparse
import statistics
import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import psutil
from prometheus_client.parser import text_string_to_metric_families as families

from tests.benchmarks.serve import bundle_at, ours, texts_of
from tests.benchmarks.serving.load import Load, Outcome, drive, get
from tests.benchmarks.serving.rounds import served
from tests.benchmarks.serving.servers import Running
from tests.benchmarks.table import Row, publish, row

CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_EVERY = 0.5


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", default="sample", help="as for pigeonhole run; its test rows are asked")
    parser.add_argument("--bundle", default="", help="a bundle; empty: one is trained on the sample")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each number of clients")
    asked = parser.parse_args()
    texts = texts_of(asked.data).all
    bundle = bundle_at(asked.bundle)
    rows: list[Row] = []
    with served(ours(bundle)) as running, ProcessPoolExecutor(1, get_context("spawn")) as client:
        requests = running.requests([[text] for text in texts])
        client.submit(drive, Load(running.host, running.port, requests, 8, asked.seconds)).result()
        for clients in CLIENTS:
            load = Load(running.host, running.port, requests, clients, asked.seconds)
            outcome, tokens, cores = _watched(client.submit(drive, load), running)
            rows += [
                row(f"{clients} clients", "requests/s", outcome.rate),
                row(f"{clients} clients, p50", "ms", 1e3 * outcome.quantile(0.5)),
                row(f"{clients} clients, p99", "ms", 1e3 * outcome.quantile(0.99)),
                row(f"{clients} clients, queue, median", "tokens", tokens),
                row(f"{clients} clients, the server's CPU", "cores", cores),
                row(f"{clients} clients, errors", "", sum(outcome.errors.values()), goal=0, at_most=True),
            ]
    publish("serve-curve", rows)


def _watched(load: "Future[Outcome]", running: Running) -> tuple[Outcome, float, float]:
    """Wait for the end; return the outcome, the median of tokens in the queue, and the cores the server used."""
    process = psutil.Process(running.pid)
    ask = Load(running.host, running.port, [get(running.host, "/metrics")], 1, keep=True)
    tokens: list[float] = []
    started, cpu = time.monotonic(), sum(process.cpu_times()[:2])
    while not load.done():
        time.sleep(_EVERY)
        page = drive(ask).bodies[0].decode()
        tokens += [
            one.value for family in families(page) if family.name.endswith("queue_tokens") for one in family.samples
        ]
    cores = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - started)
    return load.result(), statistics.median(tokens), cores


if __name__ == "__main__":
    main()
