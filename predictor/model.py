"""The KServe model: decodes, classifies off the event loop, encodes, counts."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

from kserve import InferRequest, InferResponse, Model
from kserve.errors import InvalidInput

from predictor.bundle import Precision
from predictor.classifier import Classifier
from predictor.metrics import Metrics
from predictor.protocol import INPUTS, OUTPUTS, protocol_of, read_texts, v1_response, v2_response

log = logging.getLogger("pigeonhole")

# Answered before the model says it is ready: the first call builds caches that no user should wait for.
_WARM_UP = ["warm up", "a longer text to warm up with " * 8]


class InternalError(Exception):
    """Something broke here; what, is in the log and nobody else's business."""


class TextClassifier(Model):  # type: ignore[misc]
    """A bundle behind the V1 and V2 protocols.

    Args:
        name: the model's name in the endpoints' paths.
        bundle: the bundle's folder.
        revision: label on the metrics; empty for the bundle's digest.
        precision: an engine other than the one the bundle chose.

    Raises:
        InputError: the folder is no bundle this release can read.
    """

    def __init__(self, name: str, bundle: Path, revision: str = "", precision: Precision | None = None) -> None:
        super().__init__(name)
        self.classifier = Classifier(bundle, precision)
        found = self.classifier.bundle
        self.version = found.digest[:12]
        self.metrics = Metrics(name, revision or self.version, found.spec.labels)
        self.metrics.serves(found.digest, precision or found.spec.precision)

    def load(self) -> bool:
        """Answer once; ready is true only after that."""
        self.classifier.classify(_WARM_UP)
        self.ready = True
        return True

    def start(self) -> None:
        """Nothing: the base class would say ready here."""

    def stop(self) -> None:
        """Let running calls end."""
        self.ready = False
        self.classifier.close()

    def validate(self, payload: Any) -> Any:
        """Nothing: `read_texts` looks closer."""
        return payload

    def get_input_types(self) -> list[dict[str, Any]]:
        """Return the V2 input tensors."""
        return INPUTS

    def get_output_types(self) -> list[dict[str, Any]]:
        """Return the V2 output tensors."""
        return OUTPUTS

    async def __call__(self, body: Any, headers: dict[str, str] | None = None, verb: Any = None) -> Any:
        """Answer a request of any protocol and count it."""
        started = time.perf_counter()
        code = 200
        try:
            return await super().__call__(body, headers)
        except InvalidInput:
            code = 400
            raise
        except Exception as error:
            code = 500
            log.exception("request failed")
            raise InternalError("internal error: the server's log says what broke") from error
        finally:
            self.metrics.request(protocol_of(body), code, time.perf_counter() - started)

    async def predict(
        self, payload: Any, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        """Classify the texts of a request."""
        texts = read_texts(payload)
        answers = await asyncio.get_running_loop().run_in_executor(None, self.classifier.classify, texts)
        self.metrics.predicted(answer.label for answer in answers)
        if isinstance(payload, InferRequest):
            return v2_response(payload, answers, self.version)
        return v1_response(answers, self.version)
