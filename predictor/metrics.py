"""What Prometheus sees: one prefix, and on every series the revision, which tells a canary from the stable version."""

from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

_LABELS = ("model_name", "revision")
_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0)


class Metrics:
    """The series of one served model.

    Args:
        model_name: name in the endpoints' paths.
        revision: what tells this version from another of the same model.
        labels: the classes, so that their counters exist from the start and rates are right from the first answer.
        registry: where the series live.
    """

    def __init__(
        self, model_name: str, revision: str, labels: Iterable[str], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self._who = (model_name, revision)
        self._requests = Counter(
            "text_classifier_requests_total",
            "Inference requests by protocol (v1, v2, grpc) and HTTP status code (gRPC codes as their HTTP likeness).",
            (*_LABELS, "protocol", "code"),
            registry=registry,
        )
        self._predictions = Counter(
            "text_classifier_predictions_total",
            "Texts answered, by category.",
            (*_LABELS, "category"),
            registry=registry,
        )
        self._latency = Histogram(
            "text_classifier_latency_seconds",
            "Time from a decoded request to its answer.",
            _LABELS,
            buckets=_BUCKETS,
            registry=registry,
        ).labels(*self._who)
        self._info = Gauge(
            "text_classifier_model_info",
            "1, with the bundle's digest and the precision it is served in.",
            (*_LABELS, "bundle", "precision"),
            registry=registry,
        )
        for label in labels:
            self._predictions.labels(*self._who, label)

    def serves(self, digest: str, precision: str) -> None:
        """Say which bundle is served, and how."""
        self._info.labels(*self._who, digest, precision).set(1)

    def request(self, protocol: str, code: int, seconds: float) -> None:
        """Count a finished request."""
        self._requests.labels(*self._who, protocol, str(code)).inc()
        if code < 400:
            self._latency.observe(seconds)

    def predicted(self, categories: Iterable[str]) -> None:
        """Count answers."""
        for category in categories:
            self._predictions.labels(*self._who, category).inc()
