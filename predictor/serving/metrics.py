"""The Prometheus metrics: one prefix, and on every series the revision, which tells a canary from the stable version.

One process serves a bundle, with a lane for each CPU, so there are no workers whose counts have to be added up.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Info

from predictor import metric_names as names
from predictor.model.calibration import least_sure, ranked
from predictor.model.reference import CONFIDENCE_EDGES
from predictor.serving.batcher import Batch

_LABELS = (names.MODEL, names.REVISION)
_LATENCY = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
_STAGE = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_POWERS = tuple(2.0**n for n in range(8))
# The weight of a text in the share of exits halves with 700 further texts.
_RECENT_TEXTS = 1000
_PROTOCOLS = ("v1", "v2", "grpc", "rest")
_CODES = (200, 400, 401, 404, 408, 413, 415, 429, 499, 500, 503, 504)
"""Statuses of requests. Each series exists at 0 from the start: otherwise Prometheus would miss its first increase."""
_MORE_CODES = {"rest": (202, 409)}
"""Statuses that only jobs have."""


class Metrics:
    """The series of one served model.

    Args:
        model_name: name in the endpoints' paths.
        revision: the version of the model.
        labels: the classes; their counters exist from the start, so that rates are right from the first answer on.
        token_edges: the bundle's edges of text lengths, so that traffic can be compared with the validation split.
        registry: where the series are registered.
        threshold: the confidence under which an answer is doubtful.
        least: of a multi-label model, the least probability of each label.
    """

    def __init__(
        self,
        model_name: str,
        revision: str,
        labels: Sequence[str],
        token_edges: Sequence[int],
        registry: CollectorRegistry = REGISTRY,
        threshold: float = 0.0,
        least: NDArray[np.float32] | None = None,
    ) -> None:
        self._who = (model_name, revision)
        self._registry = registry
        self._threshold, self._least = threshold, least
        self._requests = Counter(
            names.REQUESTS,
            "Requests by protocol (v1, v2, grpc, rest) and HTTP status (gRPC codes as their HTTP likeness, 499 for "
            "callers that went away).",
            (*_LABELS, names.PROTOCOL, names.CODE),
            registry=registry,
        )
        self._seen = {
            (protocol, code): self._requests.labels(*self._who, protocol, str(code))
            for protocol in _PROTOCOLS
            for code in (*_CODES, *_MORE_CODES.get(protocol, ()))
        }
        predictions = self._of(
            Counter,
            names.PREDICTIONS,
            "Texts answered, by category; a text with several labels counts for each.",
            names.CATEGORY,
        )
        self._predictions = [predictions.labels(*self._who, label) for label in labels]
        self._latency = self._of(
            Histogram, names.LATENCY, "From a request read to its answer written.", buckets=_LATENCY
        ).labels(*self._who)
        stage = self._of(
            Histogram,
            names.STAGE_SECONDS,
            "tokenise: cleaning, cascade and tokenising of a request, with the wait for calls it shares; "
            "queue: a text's wait; infer: a batch in the engine.",
            names.STAGE,
            buckets=_STAGE,
        )
        self._tokenise, self._queue, self._infer = (
            stage.labels(*self._who, name) for name in (names.TOKENISE, names.QUEUE, names.INFER)
        )
        self._batch_texts = self._of(Histogram, names.BATCH_TEXTS, "Texts of a batch.", buckets=_POWERS).labels(
            *self._who
        )
        self._batch_tokens = self._of(
            Histogram, names.BATCH_TOKENS, "Tokens of a batch, padding left out.", buckets=[n * 16 for n in _POWERS]
        ).labels(*self._who)
        self._padding = self._of(Counter, names.PADDING, "Tokens that were run only to fill batches up.").labels(
            *self._who
        )
        self._text_tokens = self._of(
            Histogram, names.TEXT_TOKENS, "Tokens of a text that was run.", buckets=sorted(set(token_edges))
        ).labels(*self._who)
        self._confidence = self._of(
            Histogram, names.CONFIDENCE, "Confidence of an answer.", buckets=CONFIDENCE_EDGES
        ).labels(*self._who)
        cache = self._of(
            Counter, names.CACHE_LOOKUPS, "Texts looked up among earlier answers, by result.", names.RESULT
        )
        self._hits, self._misses = (cache.labels(*self._who, result) for result in ("hit", "miss"))
        answers = self._of(Counter, names.ANSWERS, "Texts that are not from the cache, by who answers.", names.STAGE)
        self._linear, self._transformer = (
            answers.labels(*self._who, stage) for stage in (names.LINEAR, names.TRANSFORMER)
        )
        self._exits: float | None = None
        explanations = self._of(Counter, names.EXPLANATIONS, "Requests for an explanation, by HTTP status.", names.CODE)
        self._explanations = partial(explanations.labels, *self._who)
        self._explain = self._of(
            Histogram, names.EXPLANATION_SECONDS, "From a request read to its explanation written.", buckets=_LATENCY
        ).labels(*self._who)
        self._low_confidence = self._of(
            Counter, names.LOW_CONFIDENCE, "Texts answered with less than the bundle's confidence threshold."
        ).labels(*self._who)
        self._log()

    def _log(self) -> None:
        """Make the series of the prediction log, which are there with and without one."""
        records = self._of(Counter, names.LOG_RECORDS, "Records for the prediction log, by result.", names.RESULT)
        self._written, self._dropped = (records.labels(*self._who, result) for result in ("written", "dropped"))
        self._log_errors = self._of(
            Counter, names.LOG_ERRORS, "Times that the prediction log could not be written."
        ).labels(*self._who)
        self._waiting, self._oldest = (
            self._of(Gauge, name, text).labels(*self._who)
            for name, text in (
                (names.LOG_WAITING, "Records that are not stored yet."),
                (names.LOG_OLDEST, "Age of the oldest record that is not stored yet, 0 if there is none."),
            )
        )
        labels = self._of(Counter, names.FEEDBACK, "True labels that callers sent, by result.", names.RESULT)
        self._accepted, self._refused = (labels.labels(*self._who, result) for result in ("accepted", "refused"))

    def _of(self, kind: Any, name: str, text: str, *labels: str, **more: object) -> Any:
        return kind(name, text, (*_LABELS, *labels), registry=self._registry, **more)

    def serves(self, digest: str, precision: str) -> None:
        """Publish which bundle is served, in which precision."""
        info = self._of(Info, names.MODEL_INFO, "The bundle's digest and the precision it is served in.")
        info.labels(*self._who).info({"bundle": digest, "precision": precision})

    def cascades(self, share: float) -> None:
        """Publish the share of texts that a cascade's first stage answers: of those that set its threshold, and lately.

        Args:
            share: of the former. Where the latter moves away from it, the traffic is another, without any label.
        """
        self._exits = share
        reference = self._of(
            Gauge, names.CASCADE_REFERENCE, "Share of the rows that set the threshold, that the linear model answers."
        )
        reference.labels(*self._who).set(share)
        recent = self._of(
            Gauge, names.CASCADE_SHARE, "Share of recent texts, about a thousand, that the linear model answered."
        )
        recent.labels(*self._who).set_function(lambda: self._exits)

    def watch(self, texts: Callable[[], int], tokens: Callable[[], int]) -> None:
        """Publish the depth of the queue, which is read whenever the metrics are."""
        for name, unit, read in ((names.QUEUE_TEXTS, "Texts", texts), (names.QUEUE_TOKENS, "Tokens", tokens)):
            gauge = self._of(Gauge, name, f"{unit} that wait for a free lane.")
            gauge.labels(*self._who).set_function(read)

    def watch_log(self, waiting: Callable[[], int], oldest: Callable[[], float]) -> None:
        """Publish what the prediction log has not stored yet, which is read whenever the metrics are."""
        self._waiting.set_function(waiting)
        self._oldest.set_function(oldest)

    def log_written(self, records: int) -> None:
        """Count records that were stored."""
        self._written.inc(records)

    def log_dropped(self, records: int) -> None:
        """Count records that will never be stored."""
        self._dropped.inc(records)

    def log_failed(self) -> None:
        """Count a time that the log could not be written."""
        self._log_errors.inc()

    def feedback(self, accepted: int = 0, refused: int = 0) -> None:
        """Count true labels that callers sent."""
        self._accepted.inc(accepted)
        self._refused.inc(refused)

    def request(self, protocol: str, code: int, seconds: float | None) -> None:
        """Count a finished request; `seconds` are None where it is not one for answers to texts."""
        counter = self._seen.get((protocol, code))
        if counter is None:
            counter = self._seen[protocol, code] = self._requests.labels(*self._who, protocol, str(code))
        counter.inc()
        if code < 400 and seconds is not None:
            self._latency.observe(seconds)

    def explanation(self, code: int, seconds: float) -> None:
        """Count a finished request for an explanation, which is slow, and none of those that a rollout is judged by."""
        self._explanations(str(code)).inc()
        if code < 400:
            self._explain.observe(seconds)

    def prepared(self, seconds: float, hits: int, exits: int, queued: int) -> None:
        """Count the texts of a request that were cleaned.

        Args:
            seconds: how long that took, with tokenising.
            hits: texts that the cache, or an equal text of the request, answered.
            exits: texts that the first stage of a cascade answered.
            queued: texts that the transformer has to answer.
        """
        self._tokenise.observe(seconds)
        if hits:
            self._hits.inc(hits)
        if exits:
            self._linear.inc(exits)
        if queued:
            self._transformer.inc(queued)
        if fresh := exits + queued:
            self._misses.inc(fresh)
            if self._exits is not None:
                self._exits += (exits / fresh - self._exits) * (1 - (1 - 1 / _RECENT_TEXTS) ** fresh)

    def ran(self, batch: Batch) -> None:
        """Count a batch."""
        tokens = sum(batch.lengths)
        self._infer.observe(batch.seconds)
        self._batch_texts.observe(len(batch.lengths))
        self._batch_tokens.observe(tokens)
        self._padding.inc(max(batch.lengths) * len(batch.lengths) - tokens)
        for length in batch.lengths:
            self._text_tokens.observe(length)
        for waited in batch.waited:
            self._queue.observe(waited)

    def answered(self, rows: NDArray[np.float32]) -> None:
        """Count answers: probabilities of shape (texts, labels). A text counts for each label that it has."""
        if self._least is None:
            found, sure = [[best] for best in rows.argmax(axis=1).tolist()], rows.max(axis=1)
        else:
            found, sure = ranked(rows, self._least), least_sure(rows, self._least)
        for labels, confidence in zip(found, sure.tolist(), strict=True):
            for label in labels:
                self._predictions[label].inc()
            self._confidence.observe(confidence)
            if confidence < self._threshold:
                self._low_confidence.inc()
