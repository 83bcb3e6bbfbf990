"""Traffic for a judge: what Prometheus would have counted of two versions, drawn request by request."""

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from components.rollout.evidence import Counts, Window
from predictor.metrics import _LATENCY, _STAGE

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
        return Answers(seconds, categories.astype(np.float64), confidence)


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
        return Answers(seconds, categories, confidence[~np.isnan(confidence)])


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
        total = int(random.poisson(rate * interval * drift))
        mine = int(random.binomial(total, weight / 100))
        counts = (_counted(who, size, drift, traffic, random) for who, size in ((STABLE, total - mine), (canary, mine)))
        found.append(Window(interval * (n + 1), *counts))
    return found


def _counted(who: Behaviour, size: int, drift: float, traffic: Traffic, random: np.random.Generator) -> Counts:
    failed = int(random.binomial(size, who.errors))
    got = traffic.answered(who, size - failed, drift, random)
    return Counts(
        {"200": float(size - failed), "500": float(failed)},
        {f"class {k}": float(count) for k, count in enumerate(got.categories)},
        _histogram(got.seconds, _LATENCY),
        _histogram(got.confidence, _CONFIDENCE),
        _histogram(random.exponential(0.01, len(got.confidence)), _STAGE),
    )


def _histogram(values: Floats, edges: tuple[float, ...] | list[float]) -> dict[float, float]:
    counts = np.searchsorted(np.sort(values), edges, side="right")
    return {**{float(e): float(c) for e, c in zip(edges, counts, strict=True)}, math.inf: float(len(values))}
