"""How far two versions are apart: compared within each interval, then averaged over the intervals.

Sums over a rollout would compare different times of the day. The canary's share of traffic grows, so most of its
requests come late and most of the stable version's early, and a change for both in between (an incident, a slow hour,
another mix) would look like a difference between them, or hide one (Simpson's paradox). So an interval has the same
weight for both versions: that of Mantel and Haenszel, n1 * n2 / (n1 + n2), which has the least variance where the
difference is the same in all intervals. For distributions this is direct standardisation.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from components.rollout.judging.evidence import Counts, Window

Count = Callable[[Counts], float]


def shares(windows: Sequence[Window], events: Count, trials: Count) -> tuple[float, float]:
    """Return the share of events in the stable version's trials and in the canary's; 0 where there is nothing."""
    stable = canary = 0.0
    weights = _weights(windows, trials)
    for window, weight in zip(windows, weights, strict=True):
        if weight:
            stable += weight * events(window.stable) / trials(window.stable)
            canary += weight * events(window.canary) / trials(window.canary)
    total_weight = sum(weights) or 1.0
    return stable / total_weight, canary / total_weight


def distributions(windows: Sequence[Window], histogram: str) -> tuple[dict[float, float], dict[float, float]]:
    """Return the stable version's and the canary's cumulative shares by edge; both empty where there is nothing."""
    edges = {edge for window in windows for edge in getattr(window.stable, histogram)}
    found = {edge: shares(windows, at_most(histogram, edge), total(histogram)) for edge in sorted(edges)}
    if not found.get(math.inf, (0.0, 0.0))[0]:
        return {}, {}
    return {edge: pair[0] for edge, pair in found.items()}, {edge: pair[1] for edge, pair in found.items()}


def quantile(share: float, histogram: Mapping[float, float]) -> float:
    """Return where a cumulative histogram reaches a share, interpolated as Prometheus does; 0 for an empty one."""
    wanted, low, below = share * histogram.get(math.inf, 0.0), 0.0, 0.0
    for edge, count in sorted(histogram.items()):
        if count >= wanted > 0:
            return low if math.isinf(edge) else low + (edge - low) * (wanted - below) / max(count - below, 1e-9)
        low, below = edge, count
    return 0.0


def total(histogram: str) -> Count:
    """Return a function that counts everything in a histogram."""
    return lambda counts: getattr(counts, histogram).get(math.inf, 0.0)


def at_most(histogram: str, edge: float) -> Count:
    """Return a function that counts what a histogram has up to an edge, or up to its next lower edge."""
    return lambda counts: max((n for each, n in getattr(counts, histogram).items() if each <= edge + 1e-9), default=0.0)


def above(histogram: str, edge: float) -> Count:
    """Return a function that counts what a histogram has above an edge."""
    below, everything = at_most(histogram, edge), total(histogram)
    return lambda counts: everything(counts) - below(counts)


def _weights(windows: Sequence[Window], trials: Count) -> list[float]:
    pairs = [(trials(window.stable), trials(window.canary)) for window in windows]
    return [one * other / (one + other) if one and other else 0.0 for one, other in pairs]
