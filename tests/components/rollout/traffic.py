"""Traffic for a judge: what Prometheus would have counted of two versions, drawn request by request."""

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from components.rollout.judging.evidence import Counts, Window
from predictor.serving.metrics import _LATENCY, _STAGE

_CONFIDENCE = [n / 20 for n in range(1, 21)]
_SLOWEST = 0.98
"""Requests slower than this share of all are the slow tail."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Behaviour:
    """How a version answers."""

    errors: float = 0.001
    """Share of requests that fail."""
    median: float = 0.03
    """Seconds; like the next and `unsure` only of traffic that is simulated."""
    spread: float = 0.5
    """Standard deviation of the log of the seconds."""
    slow_tail: float = 1.0
    """By what the slowest two in a hundred are slower; the others are not."""
    too_often: float = 0.0
    """By what share the first category is answered more often than it should be, at the others' cost."""
    unsure: float = 0.02


STABLE = Behaviour()
FAILING = replace(STABLE, errors=0.02)
SLOW = replace(STABLE, slow_tail=2.0)
"""Its p99 is twice the stable one's, its p95 is not: the least that can be called a doubled p99."""
BIASED = replace(STABLE, too_often=0.2)
"""One category a fifth more often than it should be: of a quarter of the texts that is five points."""


@dataclass(frozen=True)
class Answers:
    """What became of the requests that were answered."""

    seconds: Floats
    """Of each request."""
    texts: Floats
    """Of each request."""
    categories: Floats
    """Texts by category."""
    confidence: Floats
    """Of each text."""


class Traffic(Protocol):
    """Where requests come from."""

    def answered(self, who: Behaviour, size: int, drift: float, random: np.random.Generator) -> Answers:
        """Draw so many answered requests; `drift` is the time of day, around 1."""


@dataclass(frozen=True)
class Simulated:
    """Requests of one to four texts, of four categories, as common as each other but for the time of day."""

    of_one_kind: float = 0.5
    """Share of requests whose texts are all of one category."""

    def answered(self, who: Behaviour, size: int, drift: float, random: np.random.Generator) -> Answers:
        """Draw from distributions."""
        seconds = who.median * np.exp(who.spread * random.standard_normal(size))
        seconds[seconds > who.median * math.exp(who.spread * 2.054)] *= who.slow_tail  # the normal's 98th percentile
        first = 0.25 * (1 + who.too_often)
        mix = np.array([first, *[(1 - first) / 3] * 3]) * np.linspace(drift, 1.0, 4)
        texts = random.integers(1, 5, size)
        same = random.random(size) < self.of_one_kind
        whole = random.choice(len(mix), int(same.sum()), p=mix / mix.sum())
        apart = random.multinomial(int(texts[~same].sum()), mix / mix.sum())
        categories = np.bincount(whole, weights=texts[same], minlength=len(mix)) + apart
        number = int(texts.sum())
        sure = random.beta(8, 1.2, number) / 2 + 0.5
        confidence = np.where(random.random(number) < who.unsure, random.uniform(0.3, 0.5, number), sure)
        return Answers(seconds, texts.astype(np.float64), categories.astype(np.float64), confidence)


@dataclass(frozen=True)
class Recorded:
    """Requests that a real server answered, drawn again and again."""

    seconds: Floats
    """Of each request."""
    categories: Floats
    """Of each request, the texts by category; shape (requests, categories)."""
    confidence: Floats
    """Of each text of each request; shape (requests, texts), not a number where a request has fewer."""

    def answered(self, who: Behaviour, size: int, drift: float, random: np.random.Generator) -> Answers:
        """Draw requests with what they got; those of the first category come as often as the time of day has it."""
        chances = 1 + (drift - 1) * self.categories[:, 0] / self.categories.sum(axis=1)
        rows = random.choice(len(self.seconds), size, p=chances / chances.sum())
        seconds = self.seconds[rows]
        seconds[seconds > np.quantile(self.seconds, _SLOWEST)] *= who.slow_tail
        categories = self.categories[rows].sum(axis=0)
        share = self.categories[:, 0].sum() / self.categories.sum()
        moved = random.binomial(categories[1:].astype(int), who.too_often * share / (1 - share))
        categories[0] += moved.sum()
        categories[1:] -= moved
        confidence = self.confidence[rows]
        return Answers(seconds, self.categories[rows].sum(axis=1), categories, confidence[~np.isnan(confidence)])


@dataclass(frozen=True)
class Moment:
    """How things stand in an interval, for both versions; 1 is as ever."""

    rate: float = 1.0
    """Of requests."""
    mix: float = 1.0
    """Of texts in the first category, and less of the next."""
    slower: float = 1.0
    """Seconds of every request."""
    errors: float = 1.0
    """Requests that fail."""
    incident: float = 0.0
    """Share of requests that fail beside, whoever answers."""


@dataclass(frozen=True)
class Pods:
    """What serves the requests, one after the other in each pod; the more come to a pod, the longer they wait."""

    stable: int
    canary: int


def windows(
    canary: Behaviour, weights: list[int], rate: float, interval: float, seed: int, traffic: Traffic = Simulated()
) -> list[Window]:
    """Draw an interval for each weight.

    Args:
        canary: the version beside `STABLE`.
        weights: percent of the requests that go to it.
        rate: requests a second, both together; it and the mix of categories drift as over a day.
        interval: seconds.
        seed: fixes everything.
        traffic: where requests come from.
    """
    random = np.random.default_rng(seed)
    found = []
    for n, weight in enumerate(weights):
        drift = 1 + 0.2 * math.sin(n + seed)
        end = interval * (n + 1)
        found.append(window(end, canary, weight, rate, interval, random, traffic, Moment(rate=drift, mix=drift)))
    return found


def window(
    end: float, canary: Behaviour, weight: int, rate: float, interval: float, random: np.random.Generator,
    traffic: Traffic = Simulated(), moment: Moment = Moment(), pods: Pods | None = None,
) -> Window:  # fmt: skip
    """Draw one interval; without pods nothing waits for another request."""
    total = int(random.poisson(rate * interval * moment.rate))
    mine = int(random.binomial(total, weight / 100))
    served = (pods.stable, pods.canary) if pods else (None, None)
    sides = ((STABLE, total - mine, served[0]), (canary, mine, served[1]))
    stable, beside = (_counted(who, size, moment, traffic, interval, each, random) for who, size, each in sides)
    return Window(end, stable, beside)


def _counted(
    who: Behaviour, size: int, moment: Moment, traffic: Traffic, interval: float, pods: int | None,
    random: np.random.Generator,
) -> Counts:  # fmt: skip
    failed = int(random.binomial(size, min(1.0, who.errors * moment.errors + moment.incident)))
    got = traffic.answered(who, size - failed, moment.mix, random)
    seconds = got.seconds * moment.slower
    if pods is None:
        waits = random.exponential(0.01, len(got.confidence))
    else:
        waited = _waits(seconds, pods, interval, random)
        seconds, waits = seconds + waited, np.repeat(waited, got.texts.astype(int))
    return Counts(
        {"200": float(size - failed), "500": float(failed)},
        {f"class {k}": float(count) for k, count in enumerate(got.categories)},
        _histogram(seconds, _LATENCY),
        _histogram(got.confidence, _CONFIDENCE),
        _histogram(waits, _STAGE),
    )


def _waits(seconds: Floats, pods: int, interval: float, random: np.random.Generator) -> Floats:
    """Return how long each request waits: they come at random times, to any pod, which takes them in turn (Lindley)."""
    waits = np.empty(len(seconds))
    to = random.integers(pods, size=len(seconds))
    for pod in range(pods):
        mine = seconds[to == pod]
        comes = np.sort(random.uniform(0, interval, len(mine)))
        # Behind all work that came before, less the time since, but for the time in which there was nothing to do.
        ahead = np.concatenate([[0.0], np.cumsum(mine)[:-1]])[: len(mine)] - comes
        waits[to == pod] = ahead - np.minimum.accumulate(ahead)
    return waits


def _histogram(values: Floats, edges: tuple[float, ...] | list[float]) -> dict[float, float]:
    counts = np.searchsorted(np.sort(values), edges, side="right")
    return {**{float(e): float(c) for e, c in zip(edges, counts, strict=True)}, math.inf: float(len(values))}
