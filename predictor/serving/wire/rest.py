"""Plain REST, for callers who do not speak KServe's protocols: bodies to texts, probabilities to bodies.

What the label and the path are called is the task's (`AnswerNames`). The numbers are those of V1 and V2, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from predictor.errors import EMPTY_TEXT, BadRequest
from predictor.model.calibration import ordinal_scores, ranked
from predictor.naming import AnswerNames
from predictor.records import ID_CHARACTERS
from predictor.serving.jobs.status import MOST_TEXTS, JobStatus
from predictor.serving.wire.bounds import SMALL
from predictor.serving.wire.requests import InferenceRequest
from predictor.serving.wire.responses import Model
from predictor.serving.wire.tensors import check_count
from predictor.serving.wire.values import excerpt, flag, json_object, json_type

OUTPUTS = ("label", "confidence", "probabilities")
_ONE_SHAPE = '{"text": "a text"}'
_BATCH_SHAPE = '{"texts": ["a text", ...]}'
# Texts whose answers are written at a time: as Python objects they take many times the memory of their JSON.
_PART = 256


@dataclass(frozen=True)
class Batch:
    """Texts that came in one request."""

    texts: list[str]
    id: str = ""
    """As the caller gave it in the body; empty where it did not."""
    asynchronous: bool = False
    """Whether the caller asks for the answers later."""

    def request(self) -> InferenceRequest:
        """Return a request for the answers, which leaves out empty texts."""
        # What is only spaces is seen here at once; of the rest, cleaning tells.
        numbers = [number for number, text in enumerate(self.texts) if text and not text.isspace()]
        kept = [self.texts[number] for number in numbers]
        return InferenceRequest(kept, self.id, outputs=OUTPUTS, numbers=numbers, sent=len(self.texts))


def read_text(body: bytes) -> InferenceRequest:
    """Read a body with one text.

    Raises:
        BadRequest: its shape is wrong.
        TooLarge: it has more values than one text needs.
    """
    payload = json_object(body, 1, _ONE_SHAPE)
    if "text" not in payload:
        raise BadRequest(f"the body has no 'text': send {_ONE_SHAPE}")
    text = payload["text"]
    if not isinstance(text, str):
        raise BadRequest(f"'text' is a JSON {json_type(text)}: send {_ONE_SHAPE}")
    return InferenceRequest([text], _request_id(payload), outputs=OUTPUTS)


def read_batch(body: bytes, most: int) -> Batch:
    """Read a body with many texts.

    Args:
        body: JSON.
        most: the most texts that are answered at once; a job may have more.

    Raises:
        BadRequest: its shape is wrong, or it has no texts.
        TooLarge: it has more texts than are ever read.
    """
    most = max(most, MOST_TEXTS)
    payload = json_object(body, most, _BATCH_SHAPE)
    texts = payload.get("texts")
    if not isinstance(texts, list):
        raise BadRequest(f"the body has no list 'texts': send {_BATCH_SHAPE}")
    if not texts:
        raise BadRequest(f"the list 'texts' is empty: send {_BATCH_SHAPE}")
    check_count(len(texts), most)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise BadRequest(f"text {number} is a JSON {json_type(text)}: send {_BATCH_SHAPE}")
    return Batch(texts, _request_id(payload), flag(payload, "async", False))


def _request_id(payload: dict[str, Any]) -> str:
    given = payload.get("request_id")
    if given is None:
        return ""
    if not isinstance(given, str) or len(given) > ID_CHARACTERS:
        raise BadRequest(f"'request_id' is {excerpt(given)}: send a string of at most {ID_CHARACTERS} characters")
    return given


def in_thread(body: bytes) -> bool:
    """Whether a body is to be read in a thread, since it takes long."""
    return len(body) > SMALL


@dataclass(frozen=True)
class Writer:
    """Writes answers in a task's names."""

    names: AnswerNames
    model: Model

    def one(self, request: InferenceRequest, rows: NDArray[np.float32], seconds: float) -> bytes:
        """Return the body of the answer to one text."""
        (answer,) = self.answers(rows)
        return orjson.dumps(
            {
                "request_id": request.id,
                "text": request.texts[0],
                **answer,
                "processing_time": round(seconds, 6),
                "model_version": self.model.version,
            }
        )

    def batch(
        self, texts: Sequence[str], request: InferenceRequest, rows: NDArray[np.float32], seconds: float
    ) -> bytes:
        """Return the body of the answers to a batch, in its order, with an error in the place of each empty text."""
        assert request.numbers is not None
        parts = []
        answered = 0
        kept = set(request.numbers)
        for start in range(0, len(texts), _PART):
            places = range(start, min(start + _PART, len(texts)))
            count = sum(place in kept for place in places)
            answers = iter(self.answers(rows[answered : answered + count]))
            answered += count
            results = [
                {"text": texts[place], **(next(answers) if place in kept else {"error": EMPTY_TEXT})}
                for place in places
            ]
            parts.append(orjson.dumps(results)[1:-1])
        return b'{"request_id":%b,"results":[%b],"processing_time":%b,"model_version":%b}' % (
            orjson.dumps(request.id),
            b",".join(parts),
            orjson.dumps(round(seconds, 6)),
            orjson.dumps(self.model.version),
        )

    def answers(self, rows: NDArray[np.float32], every: bool = True) -> list[dict[str, Any]]:
        """Return what is said of each text: label and confidence, an ordinal task's score, and `every` probability.

        Of a multi-label model these are a list of labels, and as the confidence that of each label by its name.
        """
        labels, names = self.model.labels, self.names
        if self.model.thresholds is not None:
            found = zip(ranked(rows, self.model.thresholds), rows.tolist(), strict=True)
            return [
                {names.field: [labels[place] for place in mine], "confidence": dict(zip(labels, row, strict=True))}
                for mine, row in found
            ]
        best, confidence = rows.argmax(axis=1).tolist(), rows.max(axis=1).tolist()
        said: list[dict[str, Any]] = [
            {names.field: labels[top], "confidence": value} for top, value in zip(best, confidence, strict=True)
        ]
        if self.model.ordinal:
            for answer, score in zip(said, ordinal_scores(rows).tolist(), strict=True):
                answer[names.score] = score
        if every:
            for answer, row in zip(said, rows.tolist(), strict=True):
                answer["probabilities"] = dict(zip(labels, row, strict=True))
        return said


def submitted(job: JobStatus) -> bytes:
    """Return the body that says that a job was taken."""
    return orjson.dumps(
        {"request_id": job.id, "status": job.state, "total": job.total, "estimated_time": job.seconds_left}
    )


def progress(job: JobStatus) -> bytes:
    """Return the body that says how far a job is."""
    return orjson.dumps(
        {
            "request_id": job.id,
            "status": job.state,
            "total": job.total,
            "done": job.done,
            "failed": job.failed,
            "progress": job.done / job.total if job.total else 1.0,
            "estimated_time": job.seconds_left,
        }
    )
