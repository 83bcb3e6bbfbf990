"""Records from KServe's own logger, a second source of the same log.

The logger is a proxy beside the predictor. It sends a CloudEvent for each request and one for each answer, or stores
both as files (`logger.storage`): JSON lists of its `LogRequest`, with the body in base64, named after the request. It
knows neither the tokens, nor who answered, nor gRPC; a V1 answer has the id of the CloudEvent, a V2 answer its own.
"""

import base64
import binascii
import gzip
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from components.monitoring.log.parts import Log
from components.platform.storage import storage_at
from predictor.errors import InputError, one_line
from predictor.label_sets import label_of
from predictor.model.text import clean
from predictor.records import LINES, TEXT_CHARACTERS, Prediction, moment, text_hash, text_id, timestamp

_TYPE = "org.kubeflow.serving.inference."
REQUEST, RESPONSE = f"{_TYPE}request", f"{_TYPE}response"


@dataclass(frozen=True)
class Event:
    """One half of what was asked and answered."""

    type: str
    id: str
    time: str
    """As records have it."""
    body: bytes
    revision: str = ""


@dataclass
class Imported:
    """What became of the events."""

    predictions: int = 0
    unpaired: int = 0
    """Requests without an answer, refused ones among them, and answers without a request."""
    left: Counter[str] = field(default_factory=Counter)
    """Files and pairs that were left out, by reason."""


def event_of(headers: Mapping[str, str], body: bytes) -> Event:
    """Return the event that the logger sends: a CloudEvent in binary mode, whose attributes are headers.

    Raises:
        InputError: it is none of the logger's.
    """
    named = {name.lower(): value for name, value in headers.items()}
    kind, id_, time = (named.get(f"ce-{name}", "") for name in ("type", "id", "time"))
    if kind not in (REQUEST, RESPONSE) or not id_ or not time:
        raise InputError("the message is no CloudEvent of KServe's logger: it lacks ce-type, ce-id or ce-time")
    return Event(kind, id_, timestamp(moment(time).timestamp()), body, named.get("ce-endpoint", ""))


def predictions_of(request: Event, response: Event) -> list[Prediction]:
    """Return the records of a request and its answer, over V1 or V2 REST.

    Raises:
        InputError: one of them is not of the protocol, or has binary tensors.
    """
    asked, answered = _json(request.body), _json(response.body)
    texts, labels, confidences = _v1(asked, answered) if "instances" in asked else _v2(asked, answered)
    if not len(texts) == len(labels) == len(confidences):
        raise InputError("the answer has another number of texts than the request")
    id_ = str(answered.get("id") or request.id)
    version = str(answered.get("model_version") or "")
    return [
        Prediction(
            text_id(id_, place, len(texts)), response.time, response.revision, version, text[:TEXT_CHARACTERS],
            text_hash(clean(text)), len(text), None, label, confidence, None, None,
        )
        for place, (text, label, confidence) in enumerate(zip(texts, labels, confidences, strict=True))
    ]  # fmt: skip


def import_events(events_uri: str, log_uri: str, model: str) -> Imported:
    """Write what KServe's logger has stored as parts of a log; doing it again writes the same parts.

    Args:
        events_uri: the folder or URI that the logger writes to.
        log_uri: the log's folder or URI.
        model: the model's name.

    Raises:
        InputError: the storage cannot be read or written.
    """
    done = Imported()
    halves: dict[str, dict[str, Event]] = defaultdict(dict)
    for event in _stored(events_uri, done):
        halves[event.id][event.type] = event
    days: dict[date, list[Prediction]] = defaultdict(list)
    for _, pair in sorted(halves.items()):
        if REQUEST not in pair or RESPONSE not in pair:
            done.unpaired += 1
            continue
        try:
            records = predictions_of(pair[REQUEST], pair[RESPONSE])
        except InputError as error:
            done.left[str(error)] += 1
            continue
        for record in records:
            days[moment(record.time).date()].append(record)
    log = Log(log_uri, model)
    for day, records in sorted(days.items()):
        _write(log, day, records)
        done.predictions += len(records)
    return done


def _write(log: Log, day: date, records: Sequence[Prediction]) -> None:
    """Write a part whose name follows from what is in it."""
    lines = b"".join(json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n" for record in records)
    name = f"kserve-{hashlib.sha256(lines).hexdigest()[:16]}{LINES}"
    log.put(f"{log.folder('predictions', day)}/{name}", gzip.compress(lines, mtime=0))


def _stored(uri: str, done: Imported) -> Iterator[Event]:
    """Yield the events of all files; a file has no time in it, so it is that of the file."""
    files, base = storage_at(uri)
    try:
        files.invalidate_cache()
        found = sorted(str(path) for path in files.find(base) if str(path).endswith(".json"))
        for path in found:
            time = timestamp(files.modified(path).timestamp())
            try:
                yield from _events(files.cat_file(path), time)
            except (ValueError, TypeError, KeyError, binascii.Error) as error:
                done.left[f"a file is no list of LogRequest ({type(error).__name__})"] += 1
    except InputError:
        raise
    except Exception as error:  # every driver has its own exceptions
        raise InputError(
            f"the events at {uri} cannot be read ({type(error).__name__}: {one_line(error)}): look at the address and "
            "its credentials"
        ) from error


def _events(data: bytes, time: str) -> list[Event]:
    given = json.loads(data)
    return [
        Event(
            str(item["ReqType"]), str(item["Id"]), time, base64.b64decode(item["Bytes"] or ""),
            str(item.get("Endpoint") or ""),
        )
        for item in (given if isinstance(given, list) else [given])
    ]  # fmt: skip


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise InputError("a body is no JSON: binary tensors are not read from the logger") from None
    if not isinstance(value, dict):
        raise InputError("a body is no JSON object")
    return value


def _v1(asked: dict[str, Any], answered: dict[str, Any]) -> tuple[list[str], list[str], list[float]]:
    try:
        texts = [item["text"] if isinstance(item, dict) else item for item in asked["instances"]]
        rows = answered["predictions"]
        return _checked(texts, [label_of(row) for row in rows], [row["confidence"] for row in rows])
    except (KeyError, TypeError):
        raise InputError("the bodies are not V1's") from None


def _v2(asked: dict[str, Any], answered: dict[str, Any]) -> tuple[list[str], list[str], list[float]]:
    try:
        (tensor,) = asked["inputs"]
        outputs = {output["name"]: output["data"] for output in answered["outputs"]}
        labels = outputs["labels"] if "labels" in outputs else outputs["label"]
        return _checked(tensor["data"], labels, outputs["confidence"])
    except (KeyError, TypeError, ValueError):
        raise InputError("the bodies are not V2's, or lack the outputs label and confidence") from None


def _checked(texts: Any, labels: Any, confidences: Any) -> tuple[list[str], list[str], list[float]]:
    """Return the three lists.

    Raises:
        TypeError: one holds something else.
    """
    if not all(isinstance(value, str) for value in (*texts, *labels)):
        raise TypeError
    return list(texts), list(labels), [float(value) for value in confidences]
