"""The KServe model: reads a request of any protocol, classifies its texts, writes the answer and counts both."""

import asyncio
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import orjson
from kserve import Model
from numpy.typing import NDArray

from predictor.errors import InternalError, Refusal, TooLarge
from predictor.model.bundle import Precision
from predictor.model.classifier import Classifier
from predictor.serving.metrics import Metrics
from predictor.serving.scheduler import MOST_VALUES, Limits, Scheduler
from predictor.serving.wire.bounds import SMALL
from predictor.serving.wire.requests import (
    INPUTS,
    InferenceRequest,
    output_types,
    read_deadline,
    read_grpc,
    read_v1,
    read_v2,
)
from predictor.serving.wire.responses import grpc_answer, v1_answer, v2_answer

log = logging.getLogger("pigeonhole")

Result = TypeVar("Result")

# Classified before the model is ready: the first call fills caches, which no caller should wait for.
_WARM_UP = ["warm up", "a longer text to warm up with " * 8]
# The status of a request whose caller hung up.
_DISCONNECTED = 499
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

    Raises:
        InputError: the folder is not a bundle that this release can read.
    """

    def __init__(
        self,
        name: str,
        bundle: Path,
        limits: Limits,
        revision: str = "",
        precision: Precision | None = None,
        cascade: bool = True,
    ) -> None:
        super().__init__(name)
        self.classifier = Classifier(bundle, precision, cascade)
        found = self.classifier.bundle
        self.version = found.digest[:12]
        edges = self.classifier.reference.token_edges
        self.metrics = Metrics(name, revision or self.version, found.spec.labels, edges)
        self.metrics.serves(found.digest, self.classifier.precision)
        if self.classifier.cascade:
            self.metrics.cascades(self.classifier.cascade.spec.share)
        self._labels = found.spec.labels
        self._scheduler = Scheduler(self.classifier, limits, self.metrics)

    def warm_up(self) -> None:
        """Run a batch on every lane, and the first stage of a cascade; the model is ready only after that."""
        if self.classifier.cascade:
            self.classifier.cascade(_WARM_UP)
        for ids in self.classifier.encoder(_WARM_UP * self.classifier.lanes):
            self.classifier.run([ids])
        self.ready = True

    def load(self) -> bool:
        """Do nothing. KServe calls this whenever a model that is not ready gets a request, also while it drains."""
        return bool(self.ready)

    def start(self) -> None:
        """Do nothing. The base class would set the model ready."""

    async def drain(self) -> None:
        """Become not ready, accept no more requests, and return when the accepted ones are answered."""
        self.ready = False
        await self._scheduler.drain()

    def stop(self) -> None:
        """Let running work end."""
        self.ready = False
        self._scheduler.close()

    def get_input_types(self) -> list[dict[str, Any]]:
        """Return the V2 input tensors."""
        return INPUTS

    def get_output_types(self) -> list[dict[str, Any]]:
        """Return the V2 output tensors."""
        return output_types(len(self._labels))

    async def answer_v1(self, body: bytes, deadline: bytes | None) -> bytes:
        """Answer a V1 body with a V1 body; `deadline` is a gateway's header, where there is one."""
        return await self._answer(
            "v1",
            len(body),
            lambda: read_v1(body, self._scheduler.most_texts),
            deadline,
            lambda asked, rows: v1_answer(asked, self._labels, rows, self.version),
        )

    async def answer_v2(self, body: bytes, json_length: str | None, deadline: bytes | None) -> tuple[bytes, int | None]:
        """Answer a V2 body with a V2 body and the length of its JSON part, none where all of it is JSON."""
        return await self._answer(
            "v2",
            len(body),
            lambda: read_v2(body, json_length, self._scheduler.most_texts),
            deadline,
            lambda asked, rows: v2_answer(asked, self._labels, rows, self.name, self.version),
        )

    async def answer_grpc(self, message: bytes) -> bytes:
        """Answer a serialised ModelInferRequest with a serialised ModelInferResponse."""
        return await self._answer(
            "grpc",
            len(message),
            lambda: read_grpc(message, self.name, self._scheduler.most_texts),
            None,  # gRPC cancels a call whose deadline has passed
            lambda asked, rows: grpc_answer(asked, self._labels, rows, self.name, self.version).SerializeToString(),
        )

    async def _answer(
        self,
        protocol: str,
        size: int,
        read: Callable[[], InferenceRequest],
        deadline: bytes | None,
        write: Callable[[InferenceRequest, NDArray[np.float32]], Result],
    ) -> Result:
        """Answer a request of any protocol and count it.

        Raises:
            Refusal: there is no answer. Nothing else is raised, so callers see no internals.
        """
        started = perf_counter()
        status = 200
        try:
            request = await self._run(size > SMALL, read)
            values = request.values(len(self._labels))
            if values > MOST_VALUES:
                raise TooLarge(
                    f"the answer would have over {MOST_VALUES} values: send fewer texts, or ask for less of each"
                )
            seconds = min((limit for limit in (read_deadline(deadline), request.timeout) if limit), default=None)
            rows = await self._scheduler.probabilities(request.texts, seconds, perf_counter() - started)
            return await self._run(values > _INLINE_VALUES, write, request, rows)
        except InternalError as error:
            status = error.status
            _log_failure(protocol, error.__cause__ or error)
            raise
        except Refusal as refusal:
            status = refusal.status
            raise
        except asyncio.CancelledError:
            status = _DISCONNECTED
            raise
        except Exception as error:
            status = InternalError.status
            _log_failure(protocol, error)
            raise InternalError("internal error: the server's log says what broke") from error
        finally:
            self.metrics.request(protocol, status, perf_counter() - started)

    async def _run(self, in_thread: bool, do: Callable[..., Result], *args: Any) -> Result:
        """Run a function here, or in a thread where it takes long."""
        if not in_thread:
            return do(*args)
        return await asyncio.get_running_loop().run_in_executor(self._scheduler.long_tasks, do, *args)


def _log_failure(protocol: str, error: BaseException) -> None:
    """Log a request that failed by no fault of its caller, in one line."""
    trace = "".join(traceback.format_exception(error))
    log.error(orjson.dumps({"event": "request failed", "protocol": protocol, "error": trace}).decode())
