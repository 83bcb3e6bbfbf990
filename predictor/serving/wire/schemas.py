"""Parts of the page: shapes of JSON, and of what is long to describe."""

from collections.abc import Sequence
from typing import Any

from predictor.serving.wire.feedback import SOURCE_CHARACTERS, TEXT_ID_CHARACTERS

Schema = dict[str, Any]

SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
PLACE_IN_ORDER: Schema = {
    "type": "number",
    "minimum": -1,
    "maximum": 1,
    "description": "From the lowest label, -1, to the highest, 1: the mean over the probabilities of all.",
}

# Status, and what it means.
ERRORS = {
    400: "The request is malformed, or texts are empty after cleaning; the sentence says where, and what to send.",
    401: "The bearer token is missing or wrong.",
    404: "There is no such job: it is unknown, has expired, or is another caller's.",
    408: "The request did not arrive whole in time.",
    409: "The job is not done.",
    413: "The body is too long, has more texts or tokens than the queue ever holds, or asks for too long an answer.",
    415: "The body is compressed.",
    429: "The queue is full.",
    431: "The URL and the headers are too long.",
    500: "The model cannot answer; the server's log says why.",
    501: "The server has no PyTorch, which explanations of the transformer need.",
    503: "The server is stopping, or not ready; it is explaining another text; or it has no Redis, or no tokens.",
    504: "No answer within the time that was allowed.",
}
# Statuses of any request of KServe's protocols for an answer.
KSERVE_STATUSES = [status for status in ERRORS if status not in (404, 409)]
_RETRY_AFTER: Schema = {
    "retry-after": {"required": True, "description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
}


def said(label: Schema, ordinal: bool, multi_label: bool) -> dict[str, Schema]:
    """Describe what every V1 prediction has, by field."""
    if multi_label:
        return {
            "labels": {**array_of(label), "uniqueItems": True, "description": "The most probable first."},
            "confidence": {**SHARE, "description": "Of the least sure decision about a label."},
            "confidences": {"type": "object", "additionalProperties": SHARE, "description": "By label."},
        }
    return {"label": label, "confidence": SHARE, **({"score": PLACE_IN_ORDER} if ordinal else {})}


def labelled(label: Schema, multi_label: bool = False) -> Schema:
    """Describe a true label that a caller sends, or a list of them."""
    some: Schema = {"type": "string", "minLength": 1}
    of = "The answer's id: x-request-id over V1, id over V2; ID/0, ID/1 and so on where the request had several texts."
    source = {"type": ["string", "null"], "minLength": 1, "maxLength": SOURCE_CHARACTERS}
    return object_of(
        {
            "id": {**some, "maxLength": TEXT_ID_CHARACTERS, "description": of},
            **({"labels": array_of(label)} if multi_label else {"label": label}),
        },
        {"source": {**source, "description": "Who says so."}},
    )


def explanation(label: Schema) -> Schema:
    """Describe an explanation."""
    place: Schema = {"type": "integer", "minimum": 0, "description": "Counts the characters of the cleaned text."}
    number: Schema = {"type": "number"}
    part = object_of({"text": {"type": "string"}, "start": place, "end": place, "attribution": number})
    weights = object_of(
        {"precision": {"const": "fp32"}, "label": label, "confidence": SHARE, "same_label": {"type": "boolean"}}
    )
    return object_of(
        {
            "text": {"type": "string", "description": "The text as it was cleaned."},
            "label": label,
            "confidence": SHARE,
            "stage": {"enum": ["linear", "transformer"], "description": "Which model answered."},
            "method": {"type": "string"},
            "score": {**number, "description": "The label's logit over the mean of the others'."},
            "baseline": {**number, "description": "The score of a text that says nothing."},
            "rest": {**number, "description": "What has no place in the text."},
            "gap": {**number, "description": "What is missing in the sum, as a share of score minus baseline."},
            "tokens": array_of(part),
            "words": array_of(part),
            "truncated": {"type": "boolean", "description": "Whether the text is longer than what the model reads."},
        },
        {
            "served": {"type": "string", "description": "The precision of the answer."},
            "explained": {**weights, "description": "The weights that are explained, and their own answer."},
        },
    )


def object_of(required: dict[str, Schema], optional: dict[str, Schema] | None = None, closed: bool = True) -> Schema:
    """An object with the fields that are required, and those that may be left out."""
    schema: Schema = {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}
    return {**schema, "additionalProperties": False} if closed else schema


def nullable_of(properties: dict[str, Schema]) -> Schema:
    """An object of which nothing is required, and which may as well be null."""
    return {"type": ["object", "null"], "properties": properties}


def array_of(items: Schema) -> Schema:
    """An array."""
    return {"type": "array", "items": items}


def content_of(schema: str, example: Any) -> dict[str, Any]:
    """Return content of a shape that has a name."""
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return content if example is None else {**content, "example": example}


def refusals(statuses: Sequence[int]) -> dict[str, Any]:
    """Describe statuses of refusals."""
    found: dict[str, Any] = {}
    for status in statuses:
        found[str(status)] = {"description": ERRORS[status], "content": {"application/json": content_of("Error", None)}}
        if status == 429:  # a 503 has it too, but not where it says that the server is not ready
            found[str(status)]["headers"] = _RETRY_AFTER
    return found
