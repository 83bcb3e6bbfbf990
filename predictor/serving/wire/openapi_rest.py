"""The part of the page that describes plain REST."""

from collections.abc import Sequence
from typing import Any

from predictor.errors import EMPTY_TEXT
from predictor.naming import AnswerNames
from predictor.records import ID_CHARACTERS
from predictor.serving.jobs.status import MOST_TEXTS
from predictor.serving.wire.schemas import PLACE_IN_ORDER, SHARE, Schema, array_of, content_of, object_of, refusals
from predictor.serving.wire.tables import DEFAULT_ROWS, MOST_OFFSET, MOST_ROWS

TAG = "Plain REST"
_TEXT = "Shares fell 7 percent."
_ID = "0123456789abcdef0123456789abcdef"
_REQUEST_ID: Schema = {
    "type": ["string", "null"],
    "maxLength": ID_CHARACTERS,
    "description": "Comes back with the answer; without one it is that of the header, or a new one.",
}
_JOB: Schema = {
    "name": "id", "in": "path", "required": True, "description": "The job's `request_id`.",
    "schema": {"type": "string", "pattern": "^[0-9A-Za-z_-]{1,64}$"},
}  # fmt: skip
_SECONDS: Schema = {
    "type": ["number", "null"],
    "minimum": 0,
    "description": "Seconds to the end, from measured rates; null where none is known.",
}
_LATER = "Whether to answer later: the answer is then a job, which needs a server with Redis."
# Statuses of a request for a job.
_JOBS = (400, 401, 404, 429, 503)


def rest_paths(
    names: AnswerNames,
    version: str,
    label: str,
    ordinal: bool,
    headers: Sequence[Schema],
    multi_label: bool = False,
) -> dict[str, Any]:
    """Return the operations of plain REST.

    Args:
        names: what the task calls its answers.
        version: the model's.
        label: one of its labels, for examples.
        ordinal: whether its labels have an order.
        headers: those that requests with texts may have.
        multi_label: whether a text may have any number of labels.
    """
    said: dict[str, Any] = {names.field: label, "confidence": 0.75, **({names.score: -0.625} if ordinal else {})}
    answer = {**said, "probabilities": {label: 0.75}}
    if multi_label:
        answer = {names.field: [label], "confidence": {label: 0.75}}
    whole = {"request_id": "42", "text": _TEXT, **answer, "processing_time": 0.01, "model_version": version}
    batch = {
        "request_id": "42",
        "results": [{"text": _TEXT, **answer}, {"text": " ", "error": EMPTY_TEXT}],
        "processing_time": 0.01,
        "model_version": version,
    }
    taken = {"request_id": _ID, "status": "queued", "total": 2, "estimated_time": None}
    path, texts = f"/v1/{names.verb}", (400, 401, 408, 413, 415, 429, 431, 500, 503, 504)
    one = _operation("Classify one text", "RestText", {"text": _TEXT}, {"200": _ok("RestAnswer", whole)})
    many = _operation(
        "Classify many texts, at once or later", "RestBatch", {"texts": [_TEXT, " "], "async": False},
        {"200": _ok("RestAnswers", batch), "202": {**_ok("RestTaken", taken), "headers": {"location": _LOCATION}}},
    )  # fmt: skip
    many["requestBody"]["content"]["text/csv"] = {
        "schema": {"type": "string", "description": "UTF-8, with the names of columns in the first line."}
    }
    for operation in (one, many):
        operation["parameters"] = list(headers)
        operation["responses"] |= refusals(texts)
    many["parameters"] = [
        *headers,
        _parameter("column", {"type": "string", "default": "text"}, "Of a CSV file, the column with the texts."),
        _parameter("async", {"enum": ["true", "false"], "default": "false"}, _LATER),
    ]
    status = {"tags": [TAG], "parameters": [_JOB], "responses": {"200": _ok("RestProgress", None), **refusals(_JOBS)}}
    return {
        path: {"post": one},
        f"{path}/batch": {"post": many},
        f"{path}/status/{{id}}": {
            "get": {**status, "summary": "How far a job is"},
            "delete": {**status, "summary": "Cancel a job"},
        },
        f"{path}/results/{{id}}": {"get": _results()},
    }


def rest_schemas(names: AnswerNames, label: Schema, ordinal: bool, multi_label: bool = False) -> dict[str, Schema]:
    """Return the shapes of what plain REST takes and answers; `label` is that of a label."""
    text: Schema = {"$ref": "#/components/schemas/Text"}
    some: Schema = {"type": "string", "minLength": 1}
    seconds: Schema = {"type": "number", "minimum": 0}
    count: Schema = {"type": "integer", "minimum": 0}
    short = {names.field: label, "confidence": SHARE, **({names.score: PLACE_IN_ORDER} if ordinal else {})}
    by_label: Schema = {"type": "object", "additionalProperties": SHARE}
    answer = {**short, "probabilities": by_label}
    if multi_label:
        answer = short = {names.field: {**array_of(label), "uniqueItems": True}, "confidence": by_label}
    sent: Schema = {"type": "string"}
    about = {"request_id": some, "processing_time": seconds, "model_version": some}
    taken = {
        "request_id": some,
        "status": {"enum": ["queued", "running", "done", "cancelled"]},
        "total": count,
        "estimated_time": _SECONDS,
    }
    texts: Schema = {
        **array_of(sent),
        "minItems": 1,
        "description": f"At most {MOST_TEXTS}; an empty one has an error.",
    }
    later: Schema = {"type": ["boolean", "null"], "default": False, "description": _LATER}
    return {
        "RestText": object_of({"text": text}, {"request_id": _REQUEST_ID}, closed=False),
        "RestBatch": object_of({"texts": texts}, {"request_id": _REQUEST_ID, "async": later}, closed=False),
        "RestAnswer": object_of({**about, "text": sent, **answer}),
        "RestAnswers": object_of(
            {
                **about,
                "results": array_of(
                    {"anyOf": [object_of({"text": sent, **answer}), object_of({"text": sent, "error": some})]}
                ),
            }
        ),
        "RestTaken": object_of(taken),
        "RestProgress": object_of({**taken, "done": count, "failed": count, "progress": SHARE}),
        "RestRow": {
            "anyOf": [
                object_of({"number": count, **short, "model_version": {"type": "string"}}),
                object_of({"number": count, "error": some}),
            ]
        },
    }


_LOCATION: Schema = {"description": "Where to ask how far the job is.", "schema": {"type": "string"}}
_LINK: Schema = {"description": 'The next page, as `<...>; rel="next"`.', "schema": {"type": "string"}}


def _results() -> dict[str, Any]:
    rows = {"schema": {"type": "string", "description": "Each line is a RestRow."}}
    table = {"schema": {"type": "string", "description": "The same as a table with a header."}}
    ok = {
        "description": "A page of the results, in the order of the texts.",
        "content": {"application/jsonl": rows, "text/csv": table},
        "headers": {"link": _LINK},
    }
    return {
        "tags": [TAG],
        "summary": "The results of a job that is done",
        "parameters": [
            _JOB,
            _parameter("format", {"enum": ["jsonl", "csv"], "default": "jsonl"}, "Lines of JSON, or a table."),
            _parameter(
                "offset", {"type": "integer", "minimum": 0, "maximum": MOST_OFFSET, "default": 0}, "The first text."
            ),
            _parameter(
                "limit", {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": DEFAULT_ROWS}, "Rows."
            ),
        ],
        "responses": {"200": ok, **refusals((*_JOBS, 409))},
    }


def _operation(summary: str, request: str, asked: Any, responses: dict[str, Any]) -> dict[str, Any]:
    return {
        "tags": [TAG],
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": content_of(request, asked)}},
        "responses": responses,
    }


def _ok(schema: str, example: Any) -> dict[str, Any]:
    return {"description": "So it is.", "content": {"application/json": content_of(schema, example)}}


def _parameter(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema}
