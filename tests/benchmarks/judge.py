"""How surely the judge takes a bad canary back, and lets an equal one through: rollouts replayed over traffic.

    make bench-judge                                        # a bundle and texts of the sample
    make bench-judge DATA=path/to/folder BUNDLE=path/to/bundle

First come whole rollouts, at the weights and with the pods that the state machine asks for. Requests wait for each
other in their pod, so latency depends on its load; rate, mix, seconds and errors of both versions drift. Then a service
of 100 requests a second, of one to four texts each, half the requests all of one category; a tenth goes to the canary,
a check every two minutes. Rate and mix of categories drift as over a day. Traffic is simulated, and then it is real:
what our server answered to test rows, how surely and how fast, with the canary's fault put on top. "20% too often" is a
fifth of the class's share (25% become 30%), the harder reading; a doubled p99 is that of the slowest two in a hundred
alone. The peer is Flagger's two built-in checks at the thresholds of its documentation: at least 99% of requests
succeed, p99 at most 500 ms.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import orjson

from components.data.collect import collect_frames
from components.data.prepare import prepare
from components.rollout.judging.evidence import Window
from components.rollout.judging.intervals import quantile
from components.rollout.judging.judge import judge
from components.rollout.state import Observation, Phase, Settings
from components.rollout.transitions import next_state
from predictor.model.bundle import Bundle
from tests.benchmarks.rollouts import Day, Setting, begun, incident_first, replayed, rolled_out, slowing
from tests.benchmarks.serve import SEED, bundle_at, ours
from tests.benchmarks.serving.load import Load
from tests.benchmarks.serving.rounds import client, served
from tests.benchmarks.table import Row, publish, row
from tests.components.rollout.traffic import (
    BIASED,
    FAILING,
    SLOW,
    STABLE,
    Behaviour,
    Recorded,
    Simulated,
    Traffic,
    windows,
)
from tests.fakes.kserve_controller import obeyed

_BAD = {"2% of requests fail": FAILING, "p99 is doubled": SLOW, "one class 20% too often": BIASED}
_INTERVALS = 3
# It stays at a tenth of the traffic: no number of requests is enough to go on.
_HELD = Settings(step_weight=10, max_weight=10, min_requests=10**9, deadline=10**6)
_STEPPED = Settings()
_REQUESTS, _TEXTS, _CALLERS = 3000, 4, 4
"""What is recorded: requests, texts of the largest, callers at a time."""


def record(bundle: str, data: str) -> Recorded:
    """Ask a real server test rows of a data source, half the requests of one category, and note its answers."""
    folder = bundle_at(bundle)
    test = prepare(collect_frames(data), SEED).test
    random = np.random.default_rng(SEED)
    texts, classes = np.array(test.texts, dtype=object), test.frame["label"].to_numpy()
    pools = [np.flatnonzero(classes == label) for label in np.unique(classes)]
    asked = []
    for number in range(_REQUESTS):
        pool = pools[random.integers(len(pools))] if number % 2 else np.arange(len(texts))
        asked.append(list(texts[random.choice(pool, random.integers(1, _TEXTS + 1))]))
    with client() as send, served(ours(folder)) as running:
        requests = running.requests(asked)
        send(Load(running.host, running.port, requests[:200], _CALLERS))
        got = send(Load(running.host, running.port, requests, _CALLERS, keep=True))
    if got.errors:
        raise RuntimeError(f"{got.errors} while traffic was recorded")
    labels = Bundle.open(folder).spec.labels
    categories, confidence = np.zeros((_REQUESTS, len(labels))), np.full((_REQUESTS, _TEXTS), np.nan)
    for number, body in got.bodies.items():
        for place, answer in enumerate(orjson.loads(body)["predictions"]):
            categories[number, labels.index(answer["label"])] += 1
            confidence[number, place] = answer["confidence"]
    seconds = np.empty(_REQUESTS)
    seconds[got.numbers] = got.latencies
    print(f"recorded {_REQUESTS:,} requests of {categories.sum():,.0f} texts, p99 {1e3 * got.quantile(0.99):.0f} ms")
    return Recorded(seconds, categories, confidence)


def _end(found: Sequence[Window], settings: Settings) -> Phase:
    """Take the state machine through the checks, one a window."""
    rollout = begun(settings)
    for n in range(1, len(found) + 1):
        service, workloads = obeyed(rollout)
        rollout = next_state(rollout, Observation(service, n * settings.interval, workloads, judge(found[:n])))
        if rollout.phase is not Phase.JUDGING:
            break
    return rollout.phase


def _flagger_objects(found: Sequence[Window]) -> bool:
    for window in found:
        canary = window.canary
        if canary.requests.get("200", 0.0) < 0.99 * canary.served or quantile(0.99, canary.latency) > 0.5:
            return True
    return False


def _caught(name: str, canary: Behaviour, traffic: Traffic, rate: float, runs: int, goal: float | None) -> Row:
    drawn = [windows(canary, [10] * _INTERVALS, rate, _HELD.interval, seed, traffic) for seed in range(runs)]
    mine = sum(_end(found, _HELD) is Phase.ROLLING_BACK for found in drawn) / runs
    peer = sum(map(_flagger_objects, drawn)) / runs
    what = f"share of {runs} rolled back in {_INTERVALS} intervals at 10%"
    return row(f"{name}, {rate:g} requests/s, {_kind(traffic)}", what, mine, peer, "Flagger's checks", goal=goal)


def _promoted(name: str, canary: Behaviour, traffic: Traffic, rate: float, runs: int, goal: float | None) -> Row:
    weights = list(range(_STEPPED.step_weight, _STEPPED.max_weight + 1, _STEPPED.step_weight))
    drawn = [windows(canary, weights, rate, _STEPPED.interval, 10_000 + seed, traffic) for seed in range(runs)]
    mine = sum(_end(found, _STEPPED) is Phase.FILLING for found in drawn) / runs
    peer = sum(not _flagger_objects(found) for found in drawn) / runs
    what = f"share of {runs} promoted in steps of 10 to 50%"
    return row(f"{name}, {rate:g} requests/s, {_kind(traffic)}", what, mine, peer, "Flagger's checks", goal=goal)


def _ramp(name: str, canary: Behaviour, setting: Setting, runs: int, wanted: Phase, goal: float | None) -> Row:
    ends = [rolled_out(canary, setting, 20_000 + seed).phase for seed in range(runs)]
    what = f"share of {runs} {'promoted' if wanted is Phase.FILLING else 'rolled back'} in steps of 10 to 50%"
    where = f"{setting.pods} pods at {setting.load:.0%} of what they can take"
    return row(f"{name}, {where}", what, sum(end is wanted for end in ends) / runs, goal=goal)


def _day(name: str, canary: Behaviour, day: Day, runs: int, wanted: Phase) -> Row:
    ends = [replayed(canary, day, 100, 30_000 + seed) for seed in range(runs)]
    what = f"share of {runs} {'promoted' if wanted is Phase.FILLING else 'rolled back'} in ten checks, 10 to 50%"
    return row(f"{name}, 100 requests/s", what, sum(end is wanted for end in ends) / runs, goal=0.95)


def _kind(traffic: Traffic) -> str:
    return "real" if isinstance(traffic, Recorded) else "simulated"


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", default="sample", help="as for pigeonhole run; its test rows are asked")
    parser.add_argument("--bundle", default="", help="a bundle; empty: one is trained on the sample")
    parser.add_argument("--runs", type=int, default=200)
    asked = parser.parse_args()
    runs = asked.runs
    rows: list[Row] = []

    def note(found: Row) -> None:
        rows.append(found)
        print(f"  {found.ours:.3f}  {found.metric}", file=sys.stderr, flush=True)

    for pods in (2, 6):
        for load in (0.3, 0.5, 0.7):
            note(_ramp("equal canary", STABLE, Setting(pods, load), runs, Phase.FILLING, 0.95))
        for name, canary in _BAD.items():
            note(_ramp(name, canary, Setting(pods, 0.5), runs, Phase.ROLLING_BACK, None))
        crashing = Setting(pods, 0.5, crashes=1 / 180)
        note(_ramp("servers crash every three minutes", STABLE, crashing, runs, Phase.ROLLING_BACK, 0.95))
    failing, slower = replace(STABLE, errors=0.009), replace(STABLE, median=1.04 * STABLE.median)
    note(_day("0.8% more fail, after an incident of both", failing, incident_first, runs, Phase.ROLLING_BACK))
    note(_day("4% slower, on a day that slows", slower, slowing, runs, Phase.FILLING))
    for traffic in (Simulated(), record(asked.bundle, asked.data)):
        for name, canary in _BAD.items():
            note(_caught(name, canary, traffic, 100, runs, 0.95))
        note(_promoted("equal canary", STABLE, traffic, 100, runs, 0.95))
        # What less traffic can show, and what is not worth a rollback, without a goal.
        for name, canary in _BAD.items():
            note(_caught(name, canary, traffic, 25, runs // 4, None))
        note(_promoted("one class 4% more often", replace(STABLE, too_often=0.04), traffic, 100, runs // 4, None))
    publish("judge", rows)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
