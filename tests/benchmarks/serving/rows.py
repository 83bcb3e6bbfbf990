"""From rounds to rows of the table: medians of figures, medians of the ratios within a round."""

import statistics
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from predictor.model.cpus import available_cpus
from tests.benchmarks.serving.bare import Bare
from tests.benchmarks.serving.rounds import CALL, Lone, Measured
from tests.benchmarks.table import Row, row
from tests.benchmarks.work import Shape


def _median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def against_peers(rounds: dict[str, list[Measured]]) -> list[Row]:
    """Compare ours with each other server, round by round."""
    rows = []

    def compare(
        what: str, unit: str, of: Callable[[Measured], float], name: str, goal: float | None, at_most: bool = False
    ) -> None:
        mine, theirs = [of(got) for got in rounds["ours"]], [of(got) for got in rounds[name]]
        ratio = _median([one / other for one, other in zip(mine, theirs, strict=True)])
        rows.append(row(what, unit, _median(mine), _median(theirs), name, value=ratio, goal=goal, at_most=at_most))

    for name in (name for name in rounds if name != "ours"):
        compare("32 clients, one text a call", "requests/s", lambda got: got.many.rate, name, 6.0)
        compare("32 clients, p99", "ms", lambda got: 1e3 * got.many.quantile(0.99), name, 0.2, at_most=True)
        if all(got.calls for got in rounds[name]):
            compare("64 texts a call", "texts/s", _texts_a_second, name, 7.0)
        compare("1 client, one text a call", "requests/s", lambda got: got.one.rate, name, None)
        compare("at 80% of its own rate, p99", "ms", lambda got: 1e3 * got.steady.quantile(0.99), name, None)
        compare("health with 32 clients, worst", "ms", lambda got: _worst_health(got.many.probes), name, None)
        compare("health with 256 clients, worst", "ms", lambda got: _worst_health(got.crowd.probes), name, None)
        failed = _median([sum(got.errors.values()) for got in rounds[name]])
        rows.append(row("failed requests of a round", "", _failed(rounds["ours"]), failed, name))
    return rows


def against_bare(mine: list[Measured], bares: list[Bare], peak: float, shape: Shape, lengths: list[int]) -> list[Row]:
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
    best = max(_median(calls), _median(singles))
    tokens = statistics.mean(lengths)
    rows.append(row("texts a second and core", "texts/s", best / available_cpus()))
    rows.append(row("tokens a second and core", "tokens/s", best * tokens / available_cpus()))
    for what, work in (
        ("share of the int8 peak, operations done", shape.first_token),
        ("share of the int8 peak, counting every layer in full", shape.every_token),
    ):
        used = best * statistics.mean(work(length) for length in lengths)
        rows.append(row(what, "GOP/s", used / 1e9, peak / 1e9, "2048 cubed", value=used / peak, goal=0.45))
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
