"""Between the wire and the classifier: V1 JSON, V2 JSON, V2 binary and gRPC say the same things."""

import math
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from kserve import InferInput, InferOutput, InferRequest, InferResponse
from kserve.errors import InvalidInput

from predictor.classifier import Answer

INPUTS = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
OUTPUTS = [
    {"name": "label", "datatype": "BYTES", "shape": [-1]},
    {"name": "confidence", "datatype": "FP32", "shape": [-1]},
]
_V1_SHAPE = '{"instances": ["a text", ...]}'


def protocol_of(payload: object) -> str:
    """Return v1, v2 or grpc for a payload as KServe hands it to a model."""
    if isinstance(payload, InferRequest):
        return "grpc" if payload.from_grpc else "v2"
    return "v1"


def read_texts(payload: object) -> list[str]:
    """Return the texts of a request, at least one, none of them blank.

    Args:
        payload: a V1 body (decoded, or bytes where KServe did not know the content type) or a V2 request.

    Raises:
        InvalidInput: the request is of another shape; the message says what was found and what is wanted.
    """
    texts = _v2_texts(payload) if isinstance(payload, InferRequest) else _v1_texts(payload)
    if not texts:
        raise InvalidInput("the request has no texts: send at least one")
    for number, text in enumerate(texts):
        if not text.strip():
            raise InvalidInput(f"text {number} is empty: send only texts with words in them")
    return texts


def _v1_texts(payload: object) -> list[str]:
    if isinstance(payload, bytes):
        try:
            payload = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"the body is not JSON ({error}): send {_V1_SHAPE}") from None
    if not isinstance(payload, dict):
        raise InvalidInput(f"the body is a JSON {_kind(payload)}: send {_V1_SHAPE}")
    if "instances" not in payload:
        raise InvalidInput(f"the body has no 'instances': send {_V1_SHAPE}")
    instances = payload["instances"]
    if not isinstance(instances, list):
        raise InvalidInput(f"'instances' is a JSON {_kind(instances)}: send {_V1_SHAPE}")
    return [_v1_text(instance, number) for number, instance in enumerate(instances)]


def _v1_text(instance: object, number: int) -> str:
    if isinstance(instance, dict) and set(instance) == {"text"}:
        instance = instance["text"]
    if not isinstance(instance, str):
        raise InvalidInput(f'instance {number} is a JSON {_kind(instance)}: send a string or {{"text": "..."}}')
    return instance


def _v2_texts(request: InferRequest) -> list[str]:
    names = [tensor.name for tensor in request.inputs]
    if names != ["text"]:
        found = ", ".join(map(repr, names)) or "none"
        raise InvalidInput(f"the request has the input tensors {found}: send one, named 'text'")
    (tensor,) = request.inputs
    if tensor.datatype != "BYTES":
        raise InvalidInput(f"input 'text' has datatype {tensor.datatype}: send BYTES")
    shape = list(tensor.shape)
    if any(not isinstance(size, int) or size < 0 for size in shape) or not shape:
        raise InvalidInput(f"input 'text' has shape {shape}: send the number of texts, as [2]")
    values = _elements(tensor)
    if len(values) != math.prod(shape):
        raise InvalidInput(f"input 'text' has {len(values)} elements but shape {shape}: send the number of texts")
    return [_v2_text(value, number) for number, value in enumerate(values)]


def _elements(tensor: InferInput) -> list[Any]:
    # InferInput.as_string() of kserve 0.21 fails for each way a string tensor can arrive.
    if tensor._raw_data is None:
        return _flat(tensor.data)
    try:
        return list(tensor.as_numpy().ravel())
    except Exception as error:  # struct.error and ValueError, by where the bytes end
        raise InvalidInput(f"input 'text' has a broken binary tensor ({error}): send length-prefixed strings") from None


def _flat(data: Any) -> list[Any]:
    """Flatten nested JSON arrays of any shape; a loop, so that depth costs no stack."""
    flat: list[Any] = []
    left = list(reversed(list(data or ())))
    while left:
        value = left.pop()
        if isinstance(value, list):
            left.extend(reversed(value))
        else:
            flat.append(value)
    return flat


def _v2_text(value: object, number: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"text {number} is not UTF-8 (byte {error.start}): send UTF-8") from None
    raise InvalidInput(f"element {number} of input 'text' is a JSON {_kind(value)}: send a string")


def v1_response(answers: Sequence[Answer], version: str) -> dict[str, Any]:
    """Return the V1 body: a prediction for each instance, in order."""
    return {
        "predictions": [{"label": answer.label, "confidence": answer.confidence} for answer in answers],
        "model_version": version,
    }


def v2_response(request: InferRequest, answers: Sequence[Answer], version: str) -> InferResponse:
    """Return the V2 answer: tensors `label` (BYTES) and `confidence` (FP32), or those the request asked for."""
    values = {
        "label": np.array([answer.label.encode() for answer in answers], dtype=object),
        "confidence": np.array([answer.confidence for answer in answers], dtype=np.float32),
    }
    asked = {output.name: output.binary_data for output in request.request_outputs or ()}
    if unknown := sorted(set(asked) - set(values)):
        raise InvalidInput(f"there is no output '{unknown[0]}': ask for {' or '.join(values)}")
    outputs = []
    for declared in OUTPUTS:
        name = str(declared["name"])
        if asked and name not in asked:
            continue
        # All outputs of a gRPC answer raw or none: kserve 0.21 puts the bytes of a mixed answer on the wrong tensor.
        binary = asked.get(name)
        raw = request.use_binary_outputs if binary is None or request.from_grpc else binary
        output = InferOutput(name, [len(answers)], declared["datatype"])
        output.set_data_from_numpy(values[name], binary_data=raw)
        if request.from_grpc and not raw and name == "label":
            output.data = [answer.label.encode() for answer in answers]
        outputs.append(output)
    return InferResponse(
        response_id=request.id or uuid.uuid4().hex,  # kserve 0.21 answers 500 without one
        model_name=request.model_name,
        model_version=version,
        infer_outputs=outputs,
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )


def _kind(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
