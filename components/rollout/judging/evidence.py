"""What is known of two versions of a model: what Prometheus counted, interval by interval, and how their pods fared."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import urllib3

from predictor import metric_names as names
from predictor.errors import InputError, one_line

# What is counted, and by which label beside the revision.
_SERIES = {
    "requests": (names.REQUESTS, names.CODE),
    "predictions": (names.PREDICTIONS, names.CATEGORY),
    "latency": (f"{names.LATENCY}_bucket", "le"),
    "confidence": (f"{names.CONFIDENCE}_bucket", "le"),
    "waits": (f'{names.STAGE_SECONDS}_bucket{{{names.STAGE}="{names.QUEUE}"}}', "le"),
}
_TIMEOUT_SECONDS = 10.0


class NoEvidence(RuntimeError):
    """There is nothing to judge by, now; one sentence that says why."""


@dataclass(frozen=True)
class Counts:
    """What one revision did in an interval."""

    requests: Mapping[str, float] = field(default_factory=dict)
    """By HTTP status."""
    predictions: Mapping[str, float] = field(default_factory=dict)
    """Texts by category."""
    latency: Mapping[float, float] = field(default_factory=dict)
    """Answered requests that took at most so many seconds; infinity holds them all. So for the next two."""
    confidence: Mapping[float, float] = field(default_factory=dict)
    """Texts that were answered with at most this confidence."""
    waits: Mapping[float, float] = field(default_factory=dict)
    """Texts that waited at most so many seconds for a free lane."""

    @property
    def served(self) -> float:
        """All requests, whatever came of them."""
        return sum(self.requests.values())

    @property
    def texts(self) -> float:
        """All texts that got an answer."""
        return sum(self.predictions.values())


@dataclass(frozen=True)
class Window:
    """One interval, in which both revisions had traffic or might have had."""

    end: float
    """Unix seconds."""
    stable: Counts
    canary: Counts


@dataclass(frozen=True)
class Pod:
    """How one pod has fared since the canary got traffic."""

    name: str
    ends: int = 0
    """How often its server ended, as far as Kubernetes tells: of several times only the last one's is known."""
    reason: str = ""
    """Of the last end, with the exit code."""
    crashed: bool = False
    """Whether the last one was an end of its own, or for want of memory, and not a probe's doing."""
    silent: bool = False
    """Whether it has not been ready for a whole interval, though it runs and once was started."""


@dataclass(frozen=True)
class Pods:
    """Those of both versions."""

    stable: tuple[Pod, ...] = ()
    canary: tuple[Pod, ...] = ()
    seconds: float = 0.0
    """For how long they have been looked at."""


def selector_of(namespace: str, service: str) -> str:
    """Return the label matchers of a service's metrics, as a PodMonitor and KServe's model name make them."""
    return f'namespace="{namespace}",{names.MODEL}="{service}"'


@dataclass(frozen=True)
class Prometheus:
    """Where the predictors' metrics are kept."""

    url: str
    selector: str = ""
    """Label matchers that single the service out, such as `namespace="team-a",model_name="news"`."""

    def windows(self, stable: str, canary: str, since: float, until: float, interval: float) -> list[Window]:
        """Return the whole intervals between two times, given in Unix seconds, earliest first.

        The same call gives the same windows whoever makes it, so a judge keeps nothing between its checks.

        Args:
            stable: the revision in service, as its metrics name it.
            canary: the revision beside it.
            since: when the canary got its first traffic.
            until: now.
            interval: seconds.

        Raises:
            NoEvidence: Prometheus does not answer, or refuses.
            InputError: it is no Prometheus, or does not understand the selector.
        """
        ends = [since + interval * n for n in range(1, int((until - since) // interval) + 1)]
        if not ends:
            return []
        revisions = (stable, canary)
        found = {name: self._increases(name, revisions, ends, interval) for name in _SERIES}
        return [
            Window(end, *(Counts(**{name: found[name][revision, n] for name in _SERIES}) for revision in revisions))
            for n, end in enumerate(ends)
        ]

    def _increases(
        self, name: str, revisions: tuple[str, str], ends: Sequence[float], interval: float
    ) -> dict[tuple[str, int], dict[Any, float]]:
        """Return by revision and number of the interval what each label value rose by."""
        series, label = _SERIES[name]
        metric, _, own = series.partition("{")
        matchers = [own.rstrip("}"), self.selector, f'{names.REVISION}=~"{"|".join(revisions)}"']
        selected = f"{metric}{{{','.join(part for part in matchers if part)}}}"
        query = f"sum by ({names.REVISION}, {label}) (increase({selected}[{round(interval)}s]))"
        fields = {"query": query, "start": f"{ends[0]:.3f}", "end": f"{ends[-1]:.3f}", "step": f"{interval:g}"}
        found: dict[tuple[str, int], dict[Any, float]] = {
            (revision, n): {} for revision in revisions for n in range(len(ends))
        }
        for row in self._asked(fields):
            value = row["metric"].get(label, "")
            key = float(value) if label == "le" else value
            for time, text in row["values"]:
                number = float(text)
                if math.isfinite(number):
                    found[row["metric"][names.REVISION], round((float(time) - ends[0]) / interval)][key] = number
        return found

    def _asked(self, fields: Mapping[str, str]) -> list[dict[str, Any]]:
        try:
            answer = urllib3.request(
                "GET", f"{self.url.rstrip('/')}/api/v1/query_range", fields=dict(fields), timeout=_TIMEOUT_SECONDS,
                retries=urllib3.Retry(2, backoff_factor=0.5),
            )  # fmt: skip
        except urllib3.exceptions.LocationValueError as error:
            raise InputError(f"{self.url} is no address: give Prometheus's, such as http://prometheus:9090") from error
        except urllib3.exceptions.HTTPError as error:
            raise NoEvidence(f"Prometheus at {self.url} does not answer ({type(error).__name__})") from error
        try:
            body = json.loads(answer.data)
            if body["status"] == "success":
                return list(body["data"]["result"])
            reason = one_line(body["error"])
        except (ValueError, KeyError, TypeError):
            if answer.status >= 500:  # a proxy in front of it, while it is away
                raise NoEvidence(f"Prometheus at {self.url} answers {answer.status}") from None
            raise InputError(f"{self.url} answers, but not as Prometheus does: give its address") from None
        if answer.status == 400:
            raise InputError(f"Prometheus refuses the query ({reason}): check --selector")
        raise NoEvidence(f"Prometheus at {self.url} cannot answer ({reason})")
