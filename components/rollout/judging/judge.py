"""The judge: whether a canary is worse than the stable version, by what both did with shares of the same traffic."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass

from components.rollout.judging.evidence import Counts, Pods, Window
from components.rollout.judging.intervals import Count, above, at_most, distributions, quantile, shares, total
from components.rollout.judging.sequential import EITHER, MORE, Table, log_evidence, mean_evidence
from components.rollout.verdict import Check, Verdict

# The chance that an equal canary is ever found worse, over a whole rollout; the signals share it.
ALPHA = 0.03
# Refusals of a healthy server that is overloaded or stopping; they carry a time to try again.
_REFUSED = ("429", "503")
_CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_LOW, _LONG_WAIT = 0.5, 0.5
_NO_PODS = Pods()


@dataclass(frozen=True)
class Tolerance:
    """How much worse a canary may be: a smaller difference is no harm, even if it is proven. Shares of 1."""

    errors: float = 0.005
    """Increase in the share of requests that fail."""
    refused: float = 0.02
    """Increase in the share of requests that are refused for overload, or of texts that wait long."""
    slower: float = 0.25
    """Increase of the 99th percentile of latency, as a share of the stable version's."""
    mix: float = 0.1
    """Change of a category's share of texts, as a share of the stable version's."""
    unsure: float = 0.02
    """Increase in the share of texts that are answered with a confidence of at most one half."""
    confidence: float = 0.1
    """The greatest distance between the two cumulative distributions of confidence."""


def judge(windows: Sequence[Window], tolerance: Tolerance = Tolerance(), pods: Pods = _NO_PODS) -> Verdict:
    """Compare two versions over the intervals in which both had traffic.

    The canary is worse by a signal if the difference is proven (see `sequential`) and greater than the tolerance (see
    `intervals`). The judge may be asked after every interval: over a whole rollout, the probability that it finds an
    equal canary worse is at most `ALPHA`, if requests are independent. Restarts of pods have a rule of their own.

    Texts of one request resemble each other, so counts of texts are divided by the number of texts in a request; the
    bound then holds even if they are all of one class. Requests that wait for each other have similar latencies, the
    more so the busier a pod is, and nothing is divided for that. Instead, an equal canary does not look slower because
    it has enough pods: none gets more traffic than a stable one (see `pods`).
    """
    checks = tuple(signal(windows, tolerance, pods) for signal in _SIGNALS)
    requests = sum(window.canary.served for window in windows)
    return Verdict(any(check.harm for check in checks), round(requests), checks)


def _failures(windows: Sequence[Window], tolerance: Tolerance, _: Pods) -> Check:
    log = log_evidence(_tables(windows, _failed, _served), MORE)
    stable, canary = shares(windows, _failed, _served)
    return _check("errors", log, canary - stable > tolerance.errors, f"{canary:.2%} of requests fail, {stable:.2%} did")


def _saturation(windows: Sequence[Window], tolerance: Tolerance, _: Pods) -> Check:
    waited, texts = above("waits", _LONG_WAIT), total("waits")
    log = mean_evidence(
        [
            log_evidence(_tables(windows, _refused, _served), MORE),
            log_evidence(_text_tables(windows, waited, texts), MORE),
        ]
    )
    refused, waits = shares(windows, _refused, _served), shares(windows, waited, texts)
    worse = max(refused[1] - refused[0], waits[1] - waits[0]) > tolerance.refused
    text = f"{refused[1]:.2%} of requests are refused, {refused[0]:.2%} were; {waits[1]:.2%} of texts wait, " + (
        f"{waits[0]:.2%} did"
    )
    return _check("saturation", log, worse, text)


def _latency(windows: Sequence[Window], tolerance: Tolerance, _: Pods) -> Check:
    edges = {edge for w in windows for c in (w.stable, w.canary) for edge in c.latency if math.isfinite(edge)}
    slower = [log_evidence(_tables(windows, above("latency", edge), total("latency")), MORE) for edge in sorted(edges)]
    stable, canary = (quantile(0.99, histogram) for histogram in distributions(windows, "latency"))
    text = f"p99 is {canary * 1000:.0f} ms, was {stable * 1000:.0f} ms"
    return _check("latency", mean_evidence(slower or [0.0]), canary > stable * (1 + tolerance.slower), text)


def _mix(windows: Sequence[Window], tolerance: Tolerance, _: Pods) -> Check:
    labels = {label for w in windows for c in (w.stable, w.canary) for label in c.predictions}
    if not labels:
        return _check("class mix", 0.0, False, "no text was answered")
    logs = {label: log_evidence(_text_tables(windows, _answered(label), _texts), EITHER) for label in sorted(labels)}
    both = {label: shares(windows, _answered(label), _texts) for label in logs}
    # While there is no evidence of a difference, report the category whose share changed most.
    worst = max(logs, key=lambda label: (round(max(logs[label], 0.0), 6), abs(both[label][0] - both[label][1])))
    stable, canary = both[worst]
    moved = abs(canary - stable) > max(tolerance.mix * stable, 0.01)
    text = f"{worst} is answered to {canary:.1%} of texts, was to {stable:.1%}"
    return _check("class mix", mean_evidence(list(logs.values())), moved, text)


def _unsure(windows: Sequence[Window], tolerance: Tolerance, _: Pods) -> Check:
    log = log_evidence(_text_tables(windows, at_most("confidence", _LOW), total("confidence")), MORE)
    stable, canary = shares(windows, at_most("confidence", _LOW), total("confidence"))
    text = f"{canary:.2%} of texts get a low confidence, {stable:.2%} did"
    return _check("low confidence", log, canary - stable > tolerance.unsure, text)


def _confidence(windows: Sequence[Window], tolerance: Tolerance, _: Pods) -> Check:
    logs, apart = [], 0.0
    for edge in _CONFIDENCES:
        surer, texts = above("confidence", edge), total("confidence")
        logs.append(log_evidence(_text_tables(windows, surer, texts), EITHER))
        stable, canary = shares(windows, surer, texts)
        apart = max(apart, abs(canary - stable))
    text = f"the distributions of confidence are {apart:.1%} apart at most"
    return _check("confidence", mean_evidence(logs), apart > tolerance.confidence, text)


def _restarts(_: Sequence[Window], __: Tolerance, pods: Pods) -> Check:
    """Compare how often servers ended, and whether they get ready again.

    A healthy server does not end in the minutes of a rollout: once a week on each pod would be much. So where none of
    the stable version's servers ended in the same time, one crash of a canary's server is enough (an exit of its own,
    or lack of memory), and so are two restarts after failed probes, of which a busy node may cause one. Where servers
    of the stable version ended, too, requests or nodes may be the cause: it has to be proven that the canary's end more
    often.
    """
    sides = (pods.canary, pods.stable)
    canary, stable = (sum(pod.ends for pod in side) for side in sides)
    watched = [pods.seconds * len(side) for side in sides]
    log = log_evidence([Table(canary, watched[0], stable, watched[1])], MORE)
    crashed = any(pod.crashed for pod in pods.canary)
    harm = _proven(log) if stable else crashed or canary > 1
    ended = max(pods.canary, key=lambda pod: (pod.crashed, pod.ends), default=None)
    silent = [pod.name for pod in pods.canary if pod.silent]
    if silent and not any(pod.silent for pod in pods.stable):
        reason = f"{silent[0]} has not been ready for a whole interval ({len(silent)} of the canary's pods)"
        return Check("pods", True, _evidence(log), reason)
    if not (ended and canary):
        return Check("pods", False, _evidence(log), "no server of the canary ended")
    reason = f"the canary's servers ended {_times(canary)} ({ended.name}: {ended.reason}), " + (
        f"the stable version's {_times(stable)}"
    )
    return Check("pods", harm, _evidence(log), reason)


def _times(number: int) -> str:
    return {0: "never", 1: "once"}.get(number, f"{number} times")


# What the versions are compared by. The bound on the evidence follows from their number.
_SIGNALS: tuple[Callable[[Sequence[Window], Tolerance, Pods], Check], ...] = (
    _failures, _saturation, _latency, _mix, _unsure, _confidence, _restarts,
)  # fmt: skip


def _check(signal: str, log: float, material: bool, reason: str) -> Check:
    return Check(signal, _proven(log) and material, _evidence(log), reason)


def _proven(log: float) -> bool:
    """Whether the evidence is enough: each signal has an equal part of `ALPHA` (Bonferroni)."""
    return log >= math.log(len(_SIGNALS) / ALPHA)


def _evidence(log: float) -> float:
    return round(math.exp(min(log, math.log(1e6))), 3)


def _tables(windows: Iterable[Window], events: Count, trials: Count) -> list[Table]:
    return [Table(events(w.canary), trials(w.canary), events(w.stable), trials(w.stable)) for w in windows]


def _text_tables(windows: Sequence[Window], events: Count, trials: Count) -> list[Table]:
    """Return tables of texts, each divided by the mean number of texts in a request of its interval."""
    found = []
    for window, table in zip(windows, _tables(windows, events, trials), strict=True):
        requests = window.canary.served + window.stable.served
        unit = max(1.0, (window.canary.texts + window.stable.texts) / max(1.0, requests))
        found.append(Table(*(count / unit for count in astuple(table))))
    return found


def _served(counts: Counts) -> float:
    return counts.served


def _texts(counts: Counts) -> float:
    return counts.texts


def _failed(counts: Counts) -> float:
    return sum(n for code, n in counts.requests.items() if not code.startswith("2") and code not in _REFUSED)


def _refused(counts: Counts) -> float:
    return sum(counts.requests.get(code, 0.0) for code in _REFUSED)


def _answered(label: str) -> Count:
    return lambda counts: counts.predictions.get(label, 0.0)
