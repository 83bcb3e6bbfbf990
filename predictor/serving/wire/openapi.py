"""The page at /openapi.json and /docs: what the server's HTTP side takes and every answer it gives.

Written by hand, since KServe's own describes routes that are never reached. A test makes its requests from this page.
"""

from collections.abc import Sequence
from typing import Any

from predictor.serving.wire.requests import DEADLINE_HEADER, ID_CHARACTERS, OUTPUTS
from predictor.serving.wire.tensors import RANK

Schema = dict[str, Any]

# A visible character that cleaning keeps. Python counts more characters as white space than regular expressions in
# other languages do. A schema cannot say that a text must not be markup only.
_SEEN = (
    r"[^\s\\\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8]"
)
_TEXT: Schema = {"type": "string", "pattern": _SEEN, "description": "Not blank, nor markup alone."}
_COUNT: Schema = {"type": ["integer", "null"], "minimum": 1, "maximum": 2**64 - 1}
_PARAMETERS: Schema = {
    "top_k": {**_COUNT, "description": "How many of the best labels to name."},
    "timeout": {**_COUNT, "description": "Microseconds after which the answer is of no use."},
}
_FLAG: Schema = {"type": ["boolean", "null"]}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_HEADERS: list[Schema] = [
    {
        "name": DEADLINE_HEADER,
        "in": "header",
        "description": "Milliseconds that a gateway is going to wait.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 9_999_999_999},
    },
    {
        "name": "x-request-id",
        "in": "header",
        "description": "Comes back with the answer.",
        "schema": {"type": "string"},
    },
]
_JSON_LENGTH = "inference-header-content-length"
_RETRY_AFTER: Schema = {
    "retry-after": {"required": True, "description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
}
# Status, and what it means.
_ERRORS = {
    400: "The request is malformed, or texts are empty after cleaning; the sentence says where, and what to send.",
    408: "The request did not arrive whole in time.",
    413: "The body is too long, has more texts or tokens than the queue ever holds, or asks for too long an answer.",
    415: "The body is compressed.",
    429: "The queue is full.",
    431: "The URL and the headers are too long.",
    500: "The model cannot answer; the server's log says why.",
    503: "The server is stopping, or not ready.",
    504: "No answer within the time that was allowed.",
}


def document(name: str, version: str, labels: Sequence[str]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of one served model; `version` is its bundle's."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Pigeonhole: {name}",
            "version": version,
            "description": "A text classifier behind the KServe protocols. Every error has a JSON body with one "
            "sentence, `error`: what is wrong, where, and what to do.",
        },
        "paths": _paths(name, version, labels[0]),
        "components": {"schemas": _schemas(labels)},
    }


def _paths(name: str, version: str, label: str) -> dict[str, Any]:
    v1, v2 = f"/v1/models/{name}", f"/v2/models/{name}"
    ready = {"name": name, "ready": True}
    return {
        f"{v1}:predict": _post("V1", "Classify texts", "V1Request", "V1Answer", _v1_examples(version, label)),
        f"{v2}/infer": _binary_too(
            _post("V2", "Classify texts", "V2Request", "V2Answer", _v2_examples(name, version, label))
        ),
        "/v1/models": _get("V1", "Which models are served", "Models", {"models": [name]}),
        v1: _get("V1", "Whether the model is ready", "Ready", ready, 503),
        "/v2": _get("V2", "The server", "Server", {"name": "kserve", "version": "0.21.0", "extensions": []}),
        "/v2/models": _get("V2", "Which models are served", "Models", {"models": [name]}),
        v2: _get("V2", "The model's inputs and outputs", "Metadata", None),
        f"{v2}/ready": _get("V2", "Whether the model is ready: the readiness probe", "Ready", ready, 503),
        "/v2/health/live": _get("V2", "Whether the server runs: the liveness probe", "Live", {"live": True}),
        "/v2/health/ready": _get("V2", "Whether every model is ready", "ServerReady", {"ready": True}, 503),
        "/metrics": {
            "get": {
                "tags": ["Metrics"],
                "summary": "What Prometheus scrapes; OpenMetrics to whom accepts it",
                "responses": {
                    "200": {
                        "description": "Series in text.",
                        "content": {kind: {"schema": {"type": "string"}} for kind in _METRICS},
                    }
                },
            }
        },
    }


# A page that lists more of them takes a browser seconds to draw.
_MOST_LABELS = 200
_METRICS = ("text/plain", "application/openmetrics-text")


def _get(tag: str, summary: str, answer: str, example: Any, *errors: int) -> dict[str, Any]:
    ok = {"description": "So it is.", "content": {"application/json": _of(answer, example)}}
    return {"get": {"tags": [tag], "summary": summary, "responses": {"200": ok, **_errors(errors)}}}


def _post(tag: str, summary: str, request: str, answer: str, examples: tuple[Any, Any]) -> dict[str, Any]:
    ok = {"description": "Answers, in the texts' order.", "content": {"application/json": _of(answer, examples[1])}}
    return {
        "post": {
            "tags": [tag],
            "summary": summary,
            "parameters": list(_HEADERS),
            "requestBody": {"required": True, "content": {"application/json": _of(request, examples[0])}},
            "responses": {"200": ok, **_errors(_ERRORS)},
        }
    }


def _binary_too(post: dict[str, Any]) -> dict[str, Any]:
    """Add the binary extension to V2 inference: bytes of tensors behind the JSON, in requests and answers."""
    operation = post["post"]
    length: Schema = {"type": "integer", "minimum": 0}
    text = "Bytes of the JSON part, where binary tensors follow it."
    operation["parameters"].append({"name": _JSON_LENGTH, "in": "header", "description": text, "schema": length})
    raw = {"schema": {"description": "JSON, then the tensors' bytes."}}
    operation["requestBody"]["content"]["application/octet-stream"] = raw
    answer = operation["responses"]["200"]
    answer["content"]["application/octet-stream"] = raw
    answer["headers"] = {_JSON_LENGTH: {"description": text, "schema": length}}
    return post


def _of(schema: str, example: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return content if example is None else {**content, "example": example}


def _errors(statuses: Sequence[int] | dict[int, str]) -> dict[str, Any]:
    errors: dict[str, Any] = {}
    for status in statuses:
        errors[str(status)] = {"description": _ERRORS[status], "content": {"application/json": _of("Error", None)}}
        if status == 429:  # a 503 has it too, but not where it says that the server is not ready
            errors[str(status)]["headers"] = _RETRY_AFTER
    return errors


def _v1_examples(version: str, label: str) -> tuple[Any, Any]:
    asked = {"instances": ["Shares fell 7 percent.", {"text": "The keeper saved two penalties."}]}
    return asked, {"predictions": [{"label": label, "confidence": 0.75}] * 2, "model_version": version}


def _v2_examples(name: str, version: str, label: str) -> tuple[Any, Any]:
    asked = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["Shares fell 7 percent."]}
    outputs = [
        {"name": "label", "datatype": "BYTES", "shape": [1], "data": [label]},
        {"name": "confidence", "datatype": "FP32", "shape": [1], "data": [0.75]},
    ]
    return {"id": "42", "inputs": [asked]}, {
        "id": "42", "model_name": name, "model_version": version, "outputs": outputs
    }  # fmt: skip


def _schemas(labels: Sequence[str]) -> dict[str, Schema]:
    label: Schema = {"$ref": "#/components/schemas/Label"}
    best = _object({"label": label, "confidence": _SHARE})
    prediction = _object({"label": label, "confidence": _SHARE}, {"top_k": _array(best)})
    nested: Schema = {"$ref": "#/components/schemas/Texts"}
    binary_size: Schema = {"type": ["integer", "null"], "minimum": 0, "description": "Where its bytes follow the JSON."}
    tensor = _object(
        {
            "name": {"const": "text"},
            "datatype": {"const": "BYTES"},
            "shape": {**_array({"type": "integer", "minimum": 0}), "maxItems": RANK},
        },
        {"data": nested, "parameters": _open({"binary_data_size": binary_size})},
        closed=False,
    )
    tensor["properties"]["shape"]["description"] = "Its product is the number of texts."
    output = _object({"name": {"enum": list(OUTPUTS)}}, {"parameters": _open({"binary_data": _FLAG})}, closed=False)
    size: Schema = {"type": "integer", "minimum": 0}
    answer = _object(
        {"name": {"enum": list(OUTPUTS)}, "datatype": {"enum": ["BYTES", "FP32"]}, "shape": _array(size)},
        {"data": _array({"anyOf": [label, _SHARE]}), "parameters": _object({"binary_data_size": size})},
    )
    name: Schema = {"type": "string", "minLength": 1}
    metadata = _array(
        _object({"name": name, "datatype": {"enum": ["BYTES", "FP32"]}, "shape": _array({"type": "integer"})})
    )
    return {
        "Label": {"type": "string", **({"enum": list(labels)} if len(labels) <= _MOST_LABELS else {})},
        "Error": _object(
            {"error": {"type": "string", "minLength": 1}},
            {
                "empty": {
                    **_array(size),
                    "description": "Which texts are empty after cleaning, from 0 on; the first 500.",
                }
            },
        ),
        "Texts": _array({"anyOf": [_TEXT, nested]}),
        "V1Request": _object(
            {"instances": {**_array({"anyOf": [_TEXT, _object({"text": _TEXT})]}), "minItems": 1}},
            {"parameters": _open(_PARAMETERS)},
            closed=False,
        ),
        "V1Answer": _object({"predictions": _array(prediction), "model_version": name}),
        "V2Request": _object(
            {"inputs": {**_array(tensor), "minItems": 1, "maxItems": 1}},
            {
                "id": {"type": ["string", "null"], "maxLength": ID_CHARACTERS},
                "outputs": {"type": ["array", "null"], "items": output, "maxItems": len(OUTPUTS)},
                "parameters": _open({**_PARAMETERS, "binary_data_output": _FLAG}),
            },
            closed=False,
        ),
        "V2Answer": _object(
            {"model_name": name, "model_version": name, "outputs": _array(answer)}, {"id": {"type": "string"}}
        ),
        "Models": _object({"models": _array(name)}),
        "Ready": _object({"name": name, "ready": {"const": True}}),
        "Live": _object({"live": {"const": True}}),
        "ServerReady": _object({"ready": {"const": True}}),
        "Server": _object({"name": name, "version": name, "extensions": _array(name)}),
        "Metadata": _object(
            {"name": name, "platform": {"type": "string"}, "inputs": metadata, "outputs": metadata},
            {"versions": {"type": ["array", "null"], "items": name}},
        ),
    }


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None, closed: bool = True) -> Schema:
    schema: Schema = {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}
    return {**schema, "additionalProperties": False} if closed else schema


def _open(properties: dict[str, Schema]) -> Schema:
    """An object of which nothing is required, and which may as well be null."""
    return {"type": ["object", "null"], "properties": properties}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}
