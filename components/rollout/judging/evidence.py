"""The evidence on two versions of a model: their metrics, interval by interval, and the state of their pods."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.platform.prometheus import QueryRefused, query_range
from predictor import metric_names as names
from predictor.errors import InputError, Unavailable

# The series of each count, and the label that it is counted by, beside the revision.
_SERIES = {
    "requests": (names.REQUESTS, names.CODE),
    "predictions": (names.PREDICTIONS, names.CATEGORY),
    "latency": (f"{names.LATENCY}_bucket", "le"),
    "confidence": (f"{names.CONFIDENCE}_bucket", "le"),
    "waits": (f'{names.STAGE_SECONDS}_bucket{{{names.STAGE}="{names.QUEUE}"}}', "le"),
}


class NoEvidence(Unavailable):
    """There is nothing to judge by now; one sentence says why."""


@dataclass(frozen=True)
class Counts:
    """What one revision did in an interval."""

    requests: Mapping[str, float] = field(default_factory=dict)
    """By HTTP status."""
    predictions: Mapping[str, float] = field(default_factory=dict)
    """Texts by category; of a multi-label model a text counts for each of its labels."""
    latency: Mapping[float, float] = field(default_factory=dict)
    """Answered requests by seconds, cumulative like a Prometheus histogram: infinity has all of them."""
    confidence: Mapping[float, float] = field(default_factory=dict)
    """Texts by confidence, cumulative."""
    waits: Mapping[float, float] = field(default_factory=dict)
    """Texts by the seconds that they waited for a free lane, cumulative."""

    @property
    def served(self) -> float:
        """All requests, answered or not."""
        return sum(self.requests.values())

    @property
    def texts(self) -> float:
        """All answered texts: each has one confidence, and of a multi-label model any number of categories."""
        return self.confidence.get(math.inf) or sum(self.predictions.values())


@dataclass(frozen=True)
class Window:
    """One interval of a rollout."""

    end: float
    """Unix seconds."""
    stable: Counts
    canary: Counts


@dataclass(frozen=True)
class Pod:
    """What happened to one pod since the canary got traffic."""

    name: str
    ends: int = 0
    """How often its server ended. Kubernetes keeps the time and the reason of the last end only."""
    reason: str = ""
    """Reason and exit code of the last end."""
    crashed: bool = False
    """Whether the server ended by itself or ran out of memory, and was not stopped after a failed probe."""
    silent: bool = False
    """Whether the server runs and was started, but has not been ready for a whole interval."""


@dataclass(frozen=True)
class Pods:
    """The pods of both versions."""

    stable: tuple[Pod, ...] = ()
    canary: tuple[Pod, ...] = ()
    seconds: float = 0.0
    """Since the canary got traffic."""


def selector_of(namespace: str, service: str) -> str:
    """Return the label matchers of a service's metrics: a PodMonitor adds the namespace, the predictor the name."""
    return f'namespace="{namespace}",{names.MODEL}="{service}"'


@dataclass(frozen=True)
class Prometheus:
    """The Prometheus that has the predictors' metrics."""

    url: str
    selector: str = ""
    """Label matchers that select the service, such as `namespace="team-a",model_name="news"`."""

    def windows(self, stable: str, canary: str, since: float, until: float, interval: float) -> list[Window]:
        """Return the whole intervals between two times, given in Unix seconds, earliest first.

        The same call always gives the same windows, so a judge keeps no state between its checks.

        Args:
            stable: the `revision` label of the stable version.
            canary: that of the canary.
            since: when the canary got its first traffic.
            until: now.
            interval: seconds.

        Raises:
            NoEvidence: Prometheus does not answer.
            InputError: the address is not that of a Prometheus, or it refuses the selector.
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
        """Return the increase for each label value, by revision and number of the interval."""
        series, label = _SERIES[name]
        metric, _, own = series.partition("{")
        matchers = [own.rstrip("}"), self.selector, f'{names.REVISION}=~"{"|".join(revisions)}"']
        selected = f"{metric}{{{','.join(part for part in matchers if part)}}}"
        query = f"sum by ({names.REVISION}, {label}) (increase({selected}[{round(interval)}s]))"
        found: dict[tuple[str, int], dict[Any, float]] = {
            (revision, n): {} for revision in revisions for n in range(len(ends))
        }
        try:
            rows = query_range(self.url, query, ends[0], ends[-1], interval)
        except Unavailable as error:
            raise NoEvidence(str(error)) from error
        except QueryRefused as error:
            raise InputError(f"{error}: check --selector") from error
        for row in rows:
            value = row["metric"].get(label, "")
            key = float(value) if label == "le" else value
            for time, text in row["values"]:
                number = float(text)
                if math.isfinite(number):
                    found[row["metric"][names.REVISION], round((float(time) - ends[0]) / interval)][key] = number
        return found
