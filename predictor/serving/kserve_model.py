"""The KServe model: reads a request of any protocol, classifies its texts, writes the answer and counts both."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import orjson
from kserve import Model
from numpy.typing import NDArray

from predictor.errors import BadRequest, EmptyTexts, NotServed, TooLarge, TooLate
from predictor.model.bundle import Precision
from predictor.model.classifier import Classifier
from predictor.model.conformal import threshold_of
from predictor.serving.cache.shared import SharedCache
from predictor.serving.counting import counting
from predictor.serving.explain.explainer import Explainer
from predictor.serving.jobs.jobs import Jobs
from predictor.serving.metrics import Metrics
from predictor.serving.prediction_log.log import LogSettings, PredictionLog, new_id
from predictor.serving.prediction_log.parts import Answer, Source, Trace
from predictor.serving.redis.metrics import RedisMetrics
from predictor.serving.scheduler import MOST_VALUES, Limits, Scheduler
from predictor.serving.wire.bounds import SMALL
from predictor.serving.wire.feedback import read_feedback
from predictor.serving.wire.outputs import INPUTS, output_types
from predictor.serving.wire.requests import InferenceRequest, read_deadline, read_grpc, read_one, read_v1, read_v2
from predictor.serving.wire.responses import Model as Answering
from predictor.serving.wire.responses import explained, grpc_answer, v1_answer, v2_answer

Result = TypeVar("Result")

# Classified before the model is ready: the first call fills caches, which no caller should wait for.
_WARM_UP = ["warm up", "a longer text to warm up with " * 8]
# An answer with more values, each a label or a number, is written in a thread.
_INLINE_VALUES = 4096


class TextClassifier(Model):  # type: ignore[misc]
    """A bundle behind the V1 and V2 protocols.

    Args:
        name: the model's name in the endpoints' paths.
        bundle: the bundle's folder.
        limits: the bounds of the server.
        revision: label of the metrics; empty for the bundle's digest.
        precision: an engine other than the one the bundle chose.
        cascade: whether the linear model of a bundle that has one answers.
        log: what is logged, and where to; None for no prediction log.
        redis_url: of the Redis for jobs and the shared cache; empty for none.

    Raises:
        InputError: the folder is not a bundle that this release can read, the log's URI has no driver, or the Redis no
            such URL.
    """

    def __init__(
        self,
        name: str,
        bundle: Path,
        limits: Limits,
        revision: str = "",
        precision: Precision | None = None,
        cascade: bool = True,
        log: LogSettings | None = None,
        redis_url: str = "",
    ) -> None:
        super().__init__(name)
        self.classifier = Classifier(bundle, precision, cascade)
        found = self.classifier.bundle
        self.version = found.digest[:12]
        edges = self.classifier.reference.token_edges
        threshold = found.spec.confidence_threshold
        least = self.classifier.thresholds
        self.metrics = Metrics(
            name, revision or self.version, found.spec.labels, edges, threshold=threshold, least=least
        )
        self.metrics.serves(found.digest, self.classifier.precision)
        if self.classifier.cascade:
            self.metrics.cascades(self.classifier.cascade.spec.share)
        self._labels = found.spec.labels
        conformal, ordinal = self.classifier.conformal, found.spec.ordinal
        self.answering = Answering(name, self.version, self._labels, conformal, ordinal, least)
        self.names = found.spec.answer
        """What plain REST calls the answers."""
        redis_metrics = RedisMetrics(name, revision or self.version)
        self._shared: SharedCache | None = None
        if redis_url:
            # Answers differ with these, if only in the last digits.
            about = f"{self.version}:{self.classifier.precision}{':cascade' if self.classifier.cascade else ''}"
            count = redis_metrics.shared_cache
            self._shared = SharedCache(redis_url, about, len(self._labels), count, sums_to_one=least is None)
        self._scheduler = Scheduler(self.classifier, limits, self.metrics, self._shared)
        answer = partial(self._scheduler.probabilities, background=True)
        kind = name if least is None else f"{name}|"  # bundles that answer in another way share no job
        self.jobs = Jobs(redis_url, kind, self._labels, self.version, answer, redis_metrics)
        """Of callers who come back for their answers."""
        self.most_texts = self._scheduler.most_texts
        """Of a request; one with more is always refused."""
        self._explainer = Explainer(self.classifier)
        self.log: PredictionLog | None = None
        if log:
            source = Source(revision or self.version, found.digest, self._labels, log.redaction, least)
            self.log = PredictionLog(log, name, source, self.metrics)

    def warm_up(self) -> None:
        """Run a batch on every lane, and the first stage of a cascade; the model is ready only after that."""
        if self.classifier.cascade:
            self.classifier.cascade(_WARM_UP)
        for ids in self.classifier.encoder(_WARM_UP * self.classifier.lanes):
            self.classifier.run([ids])
        if self.log:
            self.log.start()
        self.ready = True

    def load(self) -> bool:
        """Do nothing. KServe calls this whenever a model that is not ready gets a request, also while it drains."""
        return bool(self.ready)

    def start(self) -> None:
        """Do nothing. The base class would set the model ready."""

    def begin_jobs(self) -> None:
        """Take part in the jobs; the event loop runs."""
        self.jobs.start()

    async def drain(self) -> None:
        """Become not ready, accept no more requests, and return when the accepted ones are answered."""
        self.ready = False
        await asyncio.gather(self._scheduler.drain(), self.jobs.stop())
        if self._shared:
            await self._shared.close()
        await self.jobs.close()

    def stop(self) -> None:
        """Let running work end, and store what the prediction log holds."""
        self.ready = False
        if self.log:
            self.log.close()
        self._explainer.close()
        self._scheduler.close()

    def get_input_types(self) -> list[dict[str, Any]]:
        """Return the V2 input tensors."""
        return INPUTS

    def get_output_types(self) -> list[dict[str, Any]]:
        """Return the V2 output tensors."""
        return output_types(len(self._labels), self.answering.ordinal, self.answering.multi_label)

    async def answer_v1(self, body: bytes, deadline: bytes | None, request_id: str) -> bytes:
        """Answer a V1 body with a V1 body; `deadline` is a gateway's header, where there is one."""
        return await self._answer(
            "v1",
            len(body),
            lambda: read_v1(body, self.most_texts),
            deadline,
            request_id,
            lambda asked, rows: v1_answer(asked, self.answering, rows),
        )

    async def answer_v2(
        self, body: bytes, json_length: str | None, deadline: bytes | None, request_id: str
    ) -> tuple[bytes, int | None]:
        """Answer a V2 body with a V2 body and the length of its JSON part, none where all of it is JSON."""
        return await self._answer(
            "v2",
            len(body),
            lambda: read_v2(body, json_length, self.most_texts),
            deadline,
            request_id,
            lambda asked, rows: v2_answer(asked, self.answering, rows),
        )

    async def answer_grpc(self, message: bytes) -> bytes:
        """Answer a serialised ModelInferRequest with a serialised ModelInferResponse."""
        return await self._answer(
            "grpc",
            len(message),
            lambda: read_grpc(message, self.name, self.most_texts),
            None,  # gRPC cancels a call whose deadline has passed
            "",
            lambda asked, rows: grpc_answer(asked, self.answering, rows).SerializeToString(),
        )

    async def feedback_v1(self, body: bytes) -> bytes:
        """Take the true labels of texts that were answered earlier."""

        async def take(_: float) -> bytes:
            if not self.log:
                raise NotServed("there is no prediction log to keep feedback in: start the server with --log-url")
            records = await self.run(len(body) > SMALL, read_feedback, body, self._labels, self.answering.multi_label)
            self.log.labelled(records)
            self.metrics.feedback(accepted=len(records))
            return orjson.dumps({"accepted": len(records)})

        return await self.counted(lambda code, _: self.metrics.feedback(refused=code >= 400), "feedback", take)

    async def explain_v1(self, body: bytes, deadline: bytes | None) -> bytes:
        """Answer a V1 body of one text with what each part of it adds to the answer."""

        async def answer(started: float) -> bytes:
            if self.answering.multi_label:
                raise BadRequest("answers with any number of labels are not explained: ask for predictions")
            request = await self.run(len(body) > SMALL, read_one, body)
            threshold_of(self.answering.conformal, request.coverage)
            self._explainer.check_free()  # refuse now, before the text is run
            seconds = self._seconds(request, deadline)
            (row,) = await self._scheduler.probabilities(request.texts, seconds, perf_counter() - started)
            left = self._scheduler.seconds(seconds) - (perf_counter() - started)
            try:
                async with asyncio.timeout(left):
                    return explained(await self._explainer.explain(request.texts[0], row), self.version)
            except TimeoutError:
                raise TooLate(
                    "the explanation took too long: allow more time; the next ones are quicker than the first"
                ) from None

        return await self.counted(self.metrics.explanation, "explain", answer)

    async def _answer(
        self,
        protocol: str,
        size: int,
        read: Callable[[], InferenceRequest],
        deadline: bytes | None,
        request_id: str,
        write: Callable[[InferenceRequest, NDArray[np.float32]], Result],
    ) -> Result:
        """Answer a request of V1 or V2, count it and log it."""

        async def answer(started: float) -> Result:
            request = await self.run(size > SMALL, read)
            return await self.classify(request, deadline, request_id, started, write)

        return await self.counted(partial(self.metrics.request, protocol), protocol, answer)

    async def classify(
        self,
        request: InferenceRequest,
        deadline: bytes | None,
        request_id: str,
        started: float,
        write: Callable[[InferenceRequest, NDArray[np.float32]], Result],
    ) -> Result:
        """Answer a request that came at `started`, and log it.

        It is called by its own id, by `request_id` where it has none, or else by a new one. What `write` gets lacks the
        texts that were left out as empty.

        Raises:
            Refusal: there is no answer.
        """
        request = request.of_model(self.answering.ordinal, self.answering.multi_label)
        request = replace(request, id=request.id or request_id or new_id())
        threshold_of(self.answering.conformal, request.coverage)  # refuse now, before the texts are run
        values = request.values(len(self._labels))
        if values > MOST_VALUES:
            raise TooLarge(
                f"the answer would have over {MOST_VALUES} values: send fewer texts, or ask for less of each"
            )
        request, rows, trace = await self._probabilities(request, self._seconds(request, deadline), started)
        large = values > _INLINE_VALUES
        written = await self.run(large, write, request, rows)
        if self.log and trace:
            answer = Answer(request.id, time.time(), request.texts, rows, trace)
            if self.log.takes_long(answer):
                self.log.put(await self.run(True, self.log.entry, [answer]))
            else:
                self.log.answered(answer, asyncio.get_running_loop().call_later)
        return written

    async def _probabilities(
        self, request: InferenceRequest, seconds: float | None, started: float
    ) -> tuple[InferenceRequest, NDArray[np.float32], Trace | None]:
        """Return the probabilities of a request's texts, the request without empty ones where they are left out."""
        while request.texts:
            texts, trace = request.texts, None
            if self.log:
                trace = self.log.trace(request.id, len(texts), request.numbers, request.sent)
            try:
                rows = await self._scheduler.probabilities(texts, seconds, perf_counter() - started, trace)
                return request, rows, trace
            except EmptyTexts as found:
                if request.numbers is None:
                    raise
                request = request.without(found.places)
        return request, np.empty((0, len(self._labels)), dtype=np.float32), None

    def _seconds(self, request: InferenceRequest, deadline: bytes | None) -> float | None:
        """Return how long the caller waits; None where nobody says."""
        return min((limit for limit in (read_deadline(deadline), request.timeout) if limit), default=None)

    async def counted(
        self, count: Callable[[int, float], None], protocol: str, answer: Callable[[float], Awaitable[Result]]
    ) -> Result:
        """Answer a request, given when it started, and count it by its status and seconds.

        Raises:
            Refusal: there is no answer. Nothing else is raised, so callers see no internals.
        """
        with counting(protocol, count) as started:
            return await answer(started)

    async def run(self, in_thread: bool, do: Callable[..., Result], *args: Any) -> Result:
        """Run a function here, or in a thread where it takes long."""
        if not in_thread:
            return do(*args)
        return await asyncio.get_running_loop().run_in_executor(self._scheduler.long_tasks, do, *args)
