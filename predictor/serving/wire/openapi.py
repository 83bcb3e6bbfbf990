"""The page at /openapi.json and /docs: what the server's HTTP side takes and every answer it gives.

Written by hand, since KServe's own describes routes that are never reached. A test makes its requests from this page.
"""

from collections.abc import Sequence
from typing import Any

from predictor.naming import AnswerNames
from predictor.records import ID_CHARACTERS
from predictor.serving.wire.feedback import MOST_FEEDBACK
from predictor.serving.wire.openapi_rest import rest_paths, rest_schemas
from predictor.serving.wire.outputs import SCORE, SEVERAL, output_names
from predictor.serving.wire.requests import DEADLINE_HEADER
from predictor.serving.wire.schemas import (
    KSERVE_STATUSES,
    PLACE_IN_ORDER,
    SHARE,
    Schema,
    array_of,
    content_of,
    explanation,
    labelled,
    nullable_of,
    object_of,
    refusals,
    said,
)
from predictor.serving.wire.tensors import RANK

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
_COVERAGE = "Asks for a set of labels a text, which holds the true one this often at least."
_FLAG: Schema = {"type": ["boolean", "null"]}
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
        "description": "The request's id, which comes back with the answer; without one the answer has a new one.",
        "schema": {"type": "string"},
    },
]
_REQUEST_ID: Schema = {
    "description": "The request's, or a new one. Feedback names a V1 answer by it, and a V2 answer by the answer's id.",
    "schema": {"type": "string"},
}
_JSON_LENGTH = "inference-header-content-length"


def document(
    name: str,
    version: str,
    labels: Sequence[str],
    levels: Sequence[float] = (),
    ordinal: bool = False,
    names: AnswerNames = AnswerNames(),  # noqa: B008 - it is frozen
    tokens: bool = False,
    multi_label: bool = False,
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of one served model.

    Args:
        name: the model's.
        version: its bundle's.
        labels: what it answers.
        levels: which coverage its label sets may have.
        ordinal: whether its labels have an order, so that answers have a score.
        names: what plain REST calls its answers.
        tokens: whether callers with texts or labels need a bearer token.
        multi_label: whether a text may have any number of labels.
    """
    page: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": f"Pigeonhole: {name}",
            "version": version,
            "description": "A text classifier behind the KServe protocols. Every error has a JSON body with one "
            "sentence, `error`: what is wrong, where, and what to do.",
        },
        "paths": {
            **rest_paths(names, version, labels[0], ordinal, _HEADERS, multi_label),
            **_paths(name, version, labels[0], ordinal, multi_label),
        },
        "components": {
            "schemas": {
                **rest_schemas(names, {"$ref": "#/components/schemas/Label"}, ordinal, multi_label),
                **_schemas(labels, levels, ordinal, multi_label),
            }
        },
    }
    if multi_label:  # its answers are not explained
        del page["paths"][f"/v1/models/{name}:explain"]
    if tokens:
        page["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for operations in page["paths"].values():
            for operation in operations.values():
                if "401" in operation["responses"]:
                    operation["security"] = [{"token": []}]
    return page


def _paths(name: str, version: str, label: str, ordinal: bool, multi_label: bool) -> dict[str, Any]:
    v1_examples = _v1_examples(version, label, ordinal, multi_label)
    v2_examples = _v2_examples(name, version, label, ordinal, multi_label)
    v1, v2 = f"/v1/models/{name}", f"/v2/models/{name}"
    ready = {"name": name, "ready": True}
    return {
        f"{v1}:predict": _post("V1", "Classify texts", "V1Request", "V1Answer", v1_examples),
        f"{v1}:explain": _post("V1", "Explain the answer to a text", "V1Explain", "V1Explained", (_ONE, None)),
        f"{v1}:feedback": _feedback({"labels": [label]} if multi_label else {"label": label}),
        f"{v2}/infer": _binary_too(_post("V2", "Classify texts", "V2Request", "V2Answer", v2_examples)),
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


_ONE = {"instances": ["Shares fell 7 percent."]}
# A page that lists more of them takes a browser seconds to draw.
_MOST_LABELS = 200
_METRICS = ("text/plain", "application/openmetrics-text")


def _get(tag: str, summary: str, answer: str, example: Any, *errors: int) -> dict[str, Any]:
    ok = {"description": "So it is.", "content": {"application/json": content_of(answer, example)}}
    return {"get": {"tags": [tag], "summary": summary, "responses": {"200": ok, **refusals(errors)}}}


def _post(tag: str, summary: str, request: str, answer: str, examples: tuple[Any, Any]) -> dict[str, Any]:
    ok = {
        "description": "Answers, in the texts' order.",
        "content": {"application/json": content_of(answer, examples[1])},
        "headers": {"x-request-id": _REQUEST_ID},
    }
    return {
        "post": {
            "tags": [tag],
            "summary": summary,
            "parameters": list(_HEADERS),
            "requestBody": {"required": True, "content": {"application/json": content_of(request, examples[0])}},
            "responses": {"200": ok, **refusals(KSERVE_STATUSES)},
        }
    }


def _feedback(said: dict[str, Any]) -> dict[str, Any]:
    """Return the operation that takes true labels: that of a POST without a gateway's deadline."""
    asked = {"feedback": [{"id": "42", **said, "source": "reader"}]}
    post = _post("V1", "Say what the true labels are", "Labelled", "Accepted", (asked, {"accepted": 1}))
    operation = post["post"]
    operation["parameters"] = [_HEADERS[1]]
    operation["responses"]["200"]["description"] = "They are taken for the prediction log."
    left_out = refusals([status for status in KSERVE_STATUSES if status not in (429, 501, 504)])
    operation["responses"] = {"200": operation["responses"]["200"], **left_out}
    operation["responses"]["404"] = {
        "description": "The server keeps no prediction log.", "content": {"application/json": content_of("Error", None)}
    }  # fmt: skip
    return post


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
    answer["headers"][_JSON_LENGTH] = {"description": text, "schema": length}
    return post


def _v1_examples(version: str, label: str, ordinal: bool, multi_label: bool) -> tuple[Any, Any]:
    asked = {"instances": ["Shares fell 7 percent.", {"text": "The keeper saved two penalties."}]}
    prediction: dict[str, Any] = {"label": label, "confidence": 0.75, **({SCORE: -0.625} if ordinal else {})}
    if multi_label:
        prediction = {SEVERAL: [label], "confidence": 0.75, "confidences": {label: 0.75}}
    return asked, {"predictions": [prediction] * 2, "model_version": version}


def _v2_examples(name: str, version: str, label: str, ordinal: bool, multi_label: bool) -> tuple[Any, Any]:
    asked = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["Shares fell 7 percent."]}
    outputs = [
        {"name": SEVERAL if multi_label else "label", "datatype": "BYTES", "shape": [1], "data": [label]},
        {"name": "confidence", "datatype": "FP32", "shape": [1], "data": [0.75]},
        *([{"name": SCORE, "datatype": "FP32", "shape": [1], "data": [-0.625]}] if ordinal else []),
        *([{"name": "probabilities", "datatype": "FP32", "shape": [1, 1], "data": [0.75]}] if multi_label else []),
    ]
    return {"id": "42", "inputs": [asked]}, {
        "id": "42", "model_name": name, "model_version": version, "outputs": outputs
    }  # fmt: skip


def _schemas(labels: Sequence[str], levels: Sequence[float], ordinal: bool, multi_label: bool) -> dict[str, Schema]:
    parameters = {**_PARAMETERS, "coverage": {"enum": [None, *levels], "description": _COVERAGE}}
    label: Schema = {"$ref": "#/components/schemas/Label"}
    best = object_of({"label": label, "confidence": SHARE})
    number = PLACE_IN_ORDER if ordinal else SHARE  # of an output tensor
    names = list(output_names(ordinal, multi_label))
    sets: dict[str, Schema] = {} if multi_label else {"set": array_of(label)}
    prediction = object_of(said(label, ordinal, multi_label), {"top_k": array_of(best), **sets})
    text: Schema = {"type": "string"} if multi_label else label  # of an output tensor: labels are joined there
    instances: Schema = {**array_of({"anyOf": [_TEXT, object_of({"text": _TEXT})]}), "minItems": 1}
    nested: Schema = {"$ref": "#/components/schemas/Texts"}
    binary_size: Schema = {"type": ["integer", "null"], "minimum": 0, "description": "Where its bytes follow the JSON."}
    tensor = object_of(
        {
            "name": {"const": "text"},
            "datatype": {"const": "BYTES"},
            "shape": {**array_of({"type": "integer", "minimum": 0}), "maxItems": RANK},
        },
        {"data": nested, "parameters": nullable_of({"binary_data_size": binary_size})},
        closed=False,
    )
    tensor["properties"]["shape"]["description"] = "Its product is the number of texts."
    output = object_of({"name": {"enum": names}}, {"parameters": nullable_of({"binary_data": _FLAG})}, closed=False)
    size: Schema = {"type": "integer", "minimum": 0}
    answer = object_of(
        {"name": {"enum": names}, "datatype": {"enum": ["BYTES", "FP32"]}, "shape": array_of(size)},
        {
            "data": array_of({"anyOf": [text, number, {"const": ""}]}),
            "parameters": object_of({"binary_data_size": size}),
        },
    )
    name: Schema = {"type": "string", "minLength": 1}
    metadata = array_of(
        object_of({"name": name, "datatype": {"enum": ["BYTES", "FP32"]}, "shape": array_of({"type": "integer"})})
    )
    return {
        "Label": {"type": "string", **({"enum": list(labels)} if len(labels) <= _MOST_LABELS else {})},
        "Error": object_of(
            {"error": {"type": "string", "minLength": 1}},
            {
                "empty": {
                    **array_of(size),
                    "description": "Which texts are empty after cleaning, from 0 on; the first 500.",
                }
            },
        ),
        "Text": _TEXT,
        "Texts": array_of({"anyOf": [_TEXT, nested]}),
        "V1Request": object_of({"instances": instances}, {"parameters": nullable_of(parameters)}, closed=False),
        "V1Explain": object_of(
            {"instances": {**instances, "maxItems": 1}}, {"parameters": nullable_of(parameters)}, closed=False
        ),
        "V1Explained": object_of({"explanations": array_of(explanation(label)), "model_version": name}),
        "V1Answer": object_of({"predictions": array_of(prediction), "model_version": name}),
        "V2Request": object_of(
            {"inputs": {**array_of(tensor), "minItems": 1, "maxItems": 1}},
            {
                "id": {"type": ["string", "null"], "maxLength": ID_CHARACTERS},
                "outputs": {"type": ["array", "null"], "items": output, "maxItems": len(names)},
                "parameters": nullable_of({**parameters, "binary_data_output": _FLAG}),
            },
            closed=False,
        ),
        "V2Answer": object_of(
            {"model_name": name, "model_version": name, "outputs": array_of(answer)}, {"id": {"type": "string"}}
        ),
        "Labelled": object_of(
            {
                "feedback": {
                    **array_of(labelled(label, multi_label)),
                    "minItems": 1,
                    "description": f"At most {MOST_FEEDBACK}.",
                }
            },
            closed=False,
        ),
        "Accepted": object_of({"accepted": {"type": "integer", "minimum": 1}}),
        "Models": object_of({"models": array_of(name)}),
        "Ready": object_of({"name": name, "ready": {"const": True}}),
        "Live": object_of({"live": {"const": True}}),
        "ServerReady": object_of({"ready": {"const": True}}),
        "Server": object_of({"name": name, "version": name, "extensions": array_of(name)}),
        "Metadata": object_of(
            {"name": name, "platform": {"type": "string"}, "inputs": metadata, "outputs": metadata},
            {"versions": {"type": ["array", "null"], "items": name}},
        ),
    }
