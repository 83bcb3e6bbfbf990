"""Serving for a while at 80% of what the server can do: latency, errors, memory.

    make bench-serve-soak                                        # 10 minutes, a bundle and texts of the sample
    make bench-serve-soak MINUTES=60 DATA=path/to/folder BUNDLE=path/to/bundle

Requests of one text are sent when they are due, whether or not earlier ones are answered, and their time counts from
then. Our server keeps no answers here.
"""

import argparse
import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from tests.benchmarks.serve import bundle_at, ours, texts_of
from tests.benchmarks.serving.load import Load, Outcome, drive
from tests.benchmarks.serving.rounds import CROWD, MANY, STEADY, served
from tests.benchmarks.serving.servers import Running
from tests.benchmarks.table import publish, row

_SATURATED = 20.0
_EVERY = 2.0
_GOAL = 0.5


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", default="sample", help="as for pigeonhole run; its test rows are asked")
    parser.add_argument("--bundle", default="", help="a bundle; empty: one is trained on the sample")
    parser.add_argument("--minutes", type=float, default=10.0)
    asked = parser.parse_args()
    texts = texts_of(asked.data).all
    bundle = bundle_at(asked.bundle)
    with served(ours(bundle)) as running, ProcessPoolExecutor(1, get_context("spawn")) as client:
        requests = running.requests([[text] for text in texts])
        full = [Load(running.host, running.port, requests, MANY, seconds) for seconds in (_SATURATED / 2, _SATURATED)]
        saturation = [client.submit(drive, load).result() for load in full][1].rate
        rate = STEADY * saturation
        print(f"{saturation:.0f} requests/s with {MANY} clients; now {rate:.0f} for {asked.minutes:g} min", flush=True)
        soak = Load(running.host, running.port, requests, CROWD, 60 * asked.minutes, rate=rate)
        outcome, memory = _watched(client.submit(drive, soak), running)
        afterwards = client.submit(drive, full[1]).result().rate
    sent = len(outcome.latencies) + sum(outcome.errors.values())
    seconds, sizes = zip(*memory, strict=True)
    # Whether a p99 that is missed was missed all along or for a while; the same texts come round again and again.
    stretches = np.array_split(outcome.latencies, max(1, round(6 * asked.minutes)))
    fast = sum(len(part) > 0 and bool(np.quantile(part, 0.99) <= _GOAL) for part in stretches) / len(stretches)
    slope = float(np.polyfit(seconds, sizes, 1)[0])
    publish(
        "serve-soak",
        [
            row("requests", f"in {asked.minutes:g} min", sent),
            row("rate", "requests/s", rate),
            # Where they are far apart, the machine was not the same throughout, and 80% was not 80%.
            row("saturation before and after", "requests/s", saturation, afterwards, "afterwards"),
            row("p50", "ms", 1e3 * outcome.quantile(0.5)),
            row("p99", "ms", 1e3 * outcome.quantile(0.99), goal=1e3 * _GOAL, at_most=True),
            row("stretches of ten seconds within that p99", "%", 100 * fast),
            row("slowest", "ms", 1e3 * outcome.quantile(1.0)),
            row("errors", "of all requests", sum(outcome.errors.values()), goal=0, at_most=True),
            row("memory at the start", "MiB", memory[0][1]),
            row("memory at the end", "MiB", memory[-1][1]),
            row("memory, slope", "MiB/min", 60 * slope),
            row("the client's share", "cores", outcome.client_cores),
        ],
    )
    if outcome.errors:
        print(f"errors: {outcome.errors}")


def _watched(soak: "Future[Outcome]", running: Running) -> tuple[Outcome, list[tuple[float, float]]]:
    """Wait for the end; return the outcome and (seconds, MiB of the server) as time goes by."""
    memory: list[tuple[float, float]] = []
    started = said = time.monotonic()
    while not soak.done():
        now = time.monotonic()
        memory.append((now - started, running.resident / 2**20))
        if now - said > 60:
            said = now
            print(f"  {(now - started) / 60:.0f} min, {memory[-1][1]:.0f} MiB", flush=True)
        time.sleep(_EVERY)
    return soak.result(), memory


if __name__ == "__main__":
    main()
