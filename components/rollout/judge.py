"""The judge: whether a canary is worse than the version in service, going by what both did with the same traffic."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from components.rollout.evidence import Counts, Window
from components.rollout.sequential import EITHER, MORE, Table, log_evidence, mean_evidence

# The chance that an equal canary is ever found worse, over a whole rollout; the signals share it.
ALPHA = 0.03
# Too much at once for a moment: the server is well, and says when to come again.
_REFUSED = ("429", "503")
_CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_LOW, _LONG_WAIT = 0.5, 0.5


@dataclass(frozen=True)
class Tolerance:
    """How much worse a canary may be; what is proven but smaller does not count. Shares of 1."""

    errors: float = 0.005
    """More of the requests that fail."""
    refused: float = 0.02
    """More of the requests that are refused for overload, or of the texts that wait long."""
    slower: float = 0.25
    """Slower at the 99th percentile, of the stable version's."""
    mix: float = 0.1
    """More or fewer texts in a category, of the stable version's."""
    unsure: float = 0.02
    """More of the texts that are answered with a confidence of at most one half."""
    confidence: float = 0.1
    """Between the two distributions of confidence, at its widest."""


@dataclass(frozen=True)
class Check:
    """One thing the versions were compared by, in one sentence."""

    signal: str
    harm: bool
    evidence: float
    """How much likelier what was seen is if they differ than if they do not; at most a million."""
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What the evidence says so far."""

    harm: bool
    requests: int
    """That the canary had."""
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> list[str]:
        """What is wrong, or else what was compared."""
        return [check.reason for check in self.checks if check.harm] or [check.reason for check in self.checks]


def judge(windows: Sequence[Window], tolerance: Tolerance = Tolerance()) -> Verdict:
    """Compare two versions over the intervals in which both had traffic.

    A version is worse by a signal if that is proven (see `sequential`) and more than the tolerance. It may be asked
    after every interval: over a whole rollout an equal canary is found worse with a probability of at most `ALPHA`.
    Texts that came in one request are like each other, so counts of texts are divided by the texts a request has; that
    keeps the promise even if they are all of one class.
    """
    a_request = max(1.0, _total(windows, _texts) / max(1.0, _total(windows, _served)))
    checks = (
        _failures(windows, tolerance),
        _saturation(windows, tolerance, a_request),
        _latency(windows, tolerance),
        _mix(windows, tolerance, a_request),
        _unsure(windows, tolerance, a_request),
        _confidence(windows, tolerance, a_request),
    )
    requests = sum(window.canary.served for window in windows)
    return Verdict(any(check.harm for check in checks), round(requests), checks)


def _failures(windows: Sequence[Window], tolerance: Tolerance) -> Check:
    log = log_evidence(_tables(windows, _failed, _served), MORE)
    stable, canary = _shares(windows, _failed, _served)
    return _check("errors", log, canary - stable > tolerance.errors, f"{canary:.2%} of requests fail, {stable:.2%} did")


def _saturation(windows: Sequence[Window], tolerance: Tolerance, a_request: float) -> Check:
    waited, texts = _above("waits", _LONG_WAIT), _all("waits")
    log = mean_evidence(
        [
            log_evidence(_tables(windows, _refused, _served), MORE),
            log_evidence(_tables(windows, waited, texts, a_request), MORE),
        ]
    )
    refused, waits = _shares(windows, _refused, _served), _shares(windows, waited, texts)
    worse = max(refused[1] - refused[0], waits[1] - waits[0]) > tolerance.refused
    text = f"{refused[1]:.2%} of requests are refused, {refused[0]:.2%} were; {waits[1]:.2%} of texts wait, " + (
        f"{waits[0]:.2%} did"
    )
    return _check("saturation", log, worse, text)


def _latency(windows: Sequence[Window], tolerance: Tolerance) -> Check:
    edges = {edge for w in windows for c in (w.stable, w.canary) for edge in c.latency if math.isfinite(edge)}
    slower = [log_evidence(_tables(windows, _above("latency", edge), _all("latency")), MORE) for edge in sorted(edges)]
    stable = quantile(0.99, _summed(w.stable.latency for w in windows))
    canary = quantile(0.99, _summed(w.canary.latency for w in windows))
    text = f"p99 is {canary * 1000:.0f} ms, was {stable * 1000:.0f} ms"
    return _check("latency", mean_evidence(slower or [0.0]), canary > stable * (1 + tolerance.slower), text)


def _mix(windows: Sequence[Window], tolerance: Tolerance, a_request: float) -> Check:
    labels = {label for w in windows for c in (w.stable, w.canary) for label in c.predictions}
    if not labels:
        return _check("class mix", 0.0, False, "no text was answered")
    logs = {
        label: log_evidence(_tables(windows, _answered(label), _texts, a_request), EITHER) for label in sorted(labels)
    }
    shares = {label: _shares(windows, _answered(label), _texts) for label in logs}
    # While nothing speaks for a difference, the one that moved most is told.
    worst = max(logs, key=lambda label: (max(logs[label], 0.0), abs(shares[label][0] - shares[label][1])))
    stable, canary = shares[worst]
    moved = abs(canary - stable) > max(tolerance.mix * stable, 0.01)
    text = f"{worst} is answered to {canary:.1%} of texts, was to {stable:.1%}"
    return _check("class mix", mean_evidence(list(logs.values())), moved, text)


def _unsure(windows: Sequence[Window], tolerance: Tolerance, a_request: float) -> Check:
    log = log_evidence(_tables(windows, _at_most("confidence", _LOW), _all("confidence"), a_request), MORE)
    stable, canary = _shares(windows, _at_most("confidence", _LOW), _all("confidence"))
    text = f"{canary:.2%} of texts get a low confidence, {stable:.2%} did"
    return _check("low confidence", log, canary - stable > tolerance.unsure, text)


def _confidence(windows: Sequence[Window], tolerance: Tolerance, a_request: float) -> Check:
    logs, apart = [], 0.0
    for edge in _CONFIDENCES:
        above = _above("confidence", edge)
        logs.append(log_evidence(_tables(windows, above, _all("confidence"), a_request), EITHER))
        stable, canary = _shares(windows, above, _all("confidence"))
        apart = max(apart, abs(canary - stable))
    text = f"the distributions of confidence are {apart:.1%} apart at most"
    return _check("confidence", mean_evidence(logs), apart > tolerance.confidence, text)


def quantile(share: float, histogram: Mapping[float, float]) -> float:
    """Return where a cumulative histogram reaches a share, as Prometheus does between edges; 0 for an empty one."""
    wanted, low, below = share * histogram.get(math.inf, 0.0), 0.0, 0.0
    for edge, count in sorted(histogram.items()):
        if count >= wanted > 0:
            return low if math.isinf(edge) else low + (edge - low) * (wanted - below) / max(count - below, 1e-9)
        low, below = edge, count
    return 0.0


_Count = Callable[[Counts], float]
_SIGNALS = 6


def _check(signal: str, log: float, material: bool, reason: str) -> Check:
    proven = log >= math.log(_SIGNALS / ALPHA)
    return Check(signal, proven and material, round(math.exp(min(log, math.log(1e6))), 3), reason)


def _tables(windows: Iterable[Window], events: _Count, trials: _Count, unit: float = 1.0) -> list[Table]:
    return [
        Table(events(w.canary) / unit, trials(w.canary) / unit, events(w.stable) / unit, trials(w.stable) / unit)
        for w in windows
    ]


def _shares(windows: Sequence[Window], events: _Count, trials: _Count) -> tuple[float, float]:
    """Return the share of events in the stable version's trials and in the canary's."""
    sums = [
        (sum(events(getattr(w, who)) for w in windows), sum(trials(getattr(w, who)) for w in windows))
        for who in ("stable", "canary")
    ]
    stable, canary = (some / all_ if all_ else 0.0 for some, all_ in sums)
    return stable, canary


def _total(windows: Iterable[Window], count: _Count) -> float:
    return sum(count(w.stable) + count(w.canary) for w in windows)


def _summed(histograms: Iterable[Mapping[float, float]]) -> dict[float, float]:
    total: dict[float, float] = {}
    for histogram in histograms:
        for edge, count in histogram.items():
            total[edge] = total.get(edge, 0.0) + count
    return total


def _served(counts: Counts) -> float:
    return counts.served


def _texts(counts: Counts) -> float:
    return counts.texts


def _failed(counts: Counts) -> float:
    return sum(n for code, n in counts.requests.items() if not code.startswith("2") and code not in _REFUSED)


def _refused(counts: Counts) -> float:
    return sum(counts.requests.get(code, 0.0) for code in _REFUSED)


def _answered(label: str) -> _Count:
    return lambda counts: counts.predictions.get(label, 0.0)


def _all(histogram: str) -> _Count:
    return lambda counts: getattr(counts, histogram).get(math.inf, 0.0)


def _at_most(histogram: str, edge: float) -> _Count:
    """Return a count of what a histogram has up to an edge; between two of its edges, up to the lower one."""
    return lambda counts: max((n for each, n in getattr(counts, histogram).items() if each <= edge + 1e-9), default=0.0)


def _above(histogram: str, edge: float) -> _Count:
    below, whole = _at_most(histogram, edge), _all(histogram)
    return lambda counts: whole(counts) - below(counts)
