"""From rounds to rows of the table: medians of figures, medians of the ratios within a round."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from predictor.model.cpus import available_cpus
from tests.benchmarks.serving.bare import Bare
from tests.benchmarks.serving.rounds import CALL, Lone, Measured
from tests.benchmarks.table import Row, row
from tests.benchmarks.work import Shape


def _median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


@dataclass(frozen=True)
class Goals:
    """What is wanted on a kind of CPU: times the best peer's figure, unless it says otherwise."""

    many: float
    calls: float
    cascade: float
    """Both of these with the cascade."""
    p99: float
    peak: float
    """Share of the int8 peak, by operations done."""
    int8: float
    """Times the speed of fp32, bare engine."""


VNNI = Goals(many=4, calls=4, cascade=10, p99=0.2, peak=0.45, int8=2.2)
WITHOUT_VNNI = Goals(many=2.8, calls=2, cascade=6, p99=1 / 3, peak=0.42, int8=1.25)


def with_cascade(rounds: dict[str, list[Measured]], mine: list[Measured], goals: Goals) -> list[Row]:
    """Say of ours with its cascade what the other functions say of it without."""
    wanted = replace(goals, many=goals.cascade, calls=goals.cascade)
    rows = against_peers(rounds, mine, wanted) + by_itself(mine)
    return [replace(each, metric=f"{each.metric}, with the cascade") for each in rows]


def against_peers(rounds: dict[str, list[Measured]], mine: list[Measured], goals: Goals) -> list[Row]:
    """Compare ours with each other server, whose rounds are given by its name, round by round."""
    rows = []

    def compare(
        what: str, unit: str, of: Callable[[Measured], float], name: str, goal: float | None, at_most: bool = False
    ) -> None:
        own, theirs = [of(got) for got in mine], [of(got) for got in rounds[name]]
        ratio = _median([one / other for one, other in zip(own, theirs, strict=True)])
        rows.append(row(what, unit, _median(own), _median(theirs), name, value=ratio, goal=goal, at_most=at_most))

    for name in rounds:
        compare("32 clients, one text a call", "requests/s", lambda got: got.many.rate, name, goals.many)
        compare("32 clients, p99", "ms", lambda got: 1e3 * got.many.quantile(0.99), name, goals.p99, at_most=True)
        if all(got.calls for got in rounds[name]):
            compare("64 texts a call", "texts/s", _texts_a_second, name, goals.calls)
        compare("1 client, one text a call", "requests/s", lambda got: got.one.rate, name, None)
        compare("at 80% of its own rate, p99", "ms", lambda got: 1e3 * got.steady.quantile(0.99), name, None)
        compare("health with 32 clients, worst", "ms", lambda got: _worst_health(got.many.probes), name, None)
        compare("health with 256 clients, worst", "ms", lambda got: _worst_health(got.crowd.probes), name, None)
        failed = _median([sum(got.errors.values()) for got in rounds[name]])
        rows.append(row("failed requests of a round", "", _failed(mine), failed, name))
    return rows


def against_bare(
    mine: list[Measured], bares: list[Bare], peak: float, shape: Shape, lengths: list[int], goals: Goals
) -> list[Row]:
    """Compare ours with what the engine does without a server, and with what the cores multiply without a model."""
    rows = []
    name = "bare engine"
    calls, singles = [_texts_a_second(got) for got in mine], [got.many.rate for got in mine]
    engines = {
        f"{name}, ids ready": [bare.ids_ready for bare in bares],
        f"{name}, tokenising": [bare.tokenising for bare in bares],
    }
    for what, rates, goal in (("64 texts a call", calls, 0.9), ("32 clients, one text a call", singles, 0.75)):
        for engine, most in engines.items():
            share = _median([rate / full for rate, full in zip(rates, most, strict=True)])
            rows.append(row(what, "texts/s", _median(rates), _median(most), engine, value=share, goal=goal))
    both = [bare.ids_ready for bare in bares], [bare.fp32 for bare in bares]
    faster = _median([one / other for one, other in zip(*both, strict=True)])
    int8, fp32 = map(_median, both)
    rows.append(row(name, "texts/s", int8, fp32, f"{name} in fp32", value=faster, goal=goals.int8))
    best = max(_median(calls), _median(singles))
    tokens = statistics.mean(lengths)
    rows.append(row("texts a second and core", "texts/s", best / available_cpus()))
    rows.append(row("tokens a second and core", "tokens/s", best * tokens / available_cpus()))
    for what, work, wanted in (
        ("share of the int8 peak, operations done", shape.first_token, goals.peak),
        ("share of the int8 peak, counting every layer in full", shape.every_token, None),
    ):
        used = best * statistics.mean(work(length) for length in lengths)
        rows.append(row(what, "GOP/s", used / 1e9, peak / 1e9, "2048 cubed", value=used / peak, goal=wanted))
    return rows


def one_client(lone: Lone) -> list[Row]:
    """Compare single texts with the engine's usual time for the same text: what a server adds, and what the machine."""
    usual = np.median(lone.bare, axis=0)
    ours, engine = lone.ours / usual, lone.bare / usual
    rows = [
        row(f"1 client, {what} of the time over the engine's median for the same text", "times",
            float(np.quantile(ours, share)), float(np.quantile(engine, share)), "bare engine", goal=goal, at_most=True)
        for what, share, goal in (("median", 0.5, None), ("p99", 0.99, 1.6))
    ]  # fmt: skip
    p99 = [1e3 * float(np.quantile(seconds, 0.99)) for seconds in (lone.ours, lone.bare)]
    rows.append(row("1 client, p99", "ms", p99[0], p99[1], "bare engine", value=p99[0] / p99[1]))
    return rows


def by_itself(mine: list[Measured]) -> list[Row]:
    """Say what is wanted of ours whatever others do."""
    steady = _median([1e3 * got.steady.quantile(0.99) for got in mine])
    health = [_median([_worst_health(got.many.probes) for got in mine])]
    health.append(_median([_worst_health(got.crowd.probes) for got in mine]))
    return [
        row("at 80% of the rate, p99", "ms", steady, goal=500, at_most=True),
        row("failed requests of a round", "", _failed(mine), goal=0, at_most=True),
        row("health with 32 clients, worst", "ms", health[0], goal=100, at_most=True),
        row("health with 256 clients, worst", "ms", health[1], goal=100, at_most=True),
        row("memory", "MiB", _median([got.resident / 2**20 for got in mine])),
        row("the client's share with 32 clients", "cores", _median([got.many.client_cores for got in mine])),
    ]


def _failed(rounds: list[Measured]) -> float:
    return float(max(sum(got.errors.values()) for got in rounds))


def _texts_a_second(got: Measured) -> float:
    return CALL * got.calls.rate if got.calls else 0.0


def _worst_health(seconds: NDArray[np.float64]) -> float:
    return 1e3 * float(seconds.max()) if len(seconds) else float("inf")
