"""From the wire to a question: V1 JSON, V2 JSON, V2 binary and gRPC ask the same things."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from kserve import InferRequest
from kserve.protocol.infer_type import to_http_parameters

from predictor.errors import BadRequest

INPUTS = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
_USUAL = ("label", "confidence")
TOP = ("top_labels", "top_confidences")
OUTPUTS = (*_USUAL, "probabilities", *TOP)
# What Envoy, and so every gateway made of it, tells of the time it is going to wait.
DEADLINE_HEADER = "x-envoy-expected-rq-timeout-ms"
_V1_SHAPE = '{"instances": ["a text", ...]}'
_V2_SHAPE = '{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a text"]}]}'


@dataclass(frozen=True)
class Question:
    """What a request of any protocol asks."""

    texts: list[str]
    """At least one."""
    id: str = ""
    top_k: int | None = None
    timeout: float | None = None
    """Seconds."""
    outputs: tuple[str, ...] = _USUAL
    binary: frozenset[str] = frozenset()
    """Outputs to send as bytes; all or none of them over gRPC."""


@dataclass(frozen=True)
class Tensor:
    """One input of a V2 request; `data` is what JSON or protobuf held, bytes where the tensor is binary."""

    name: object
    datatype: object
    shape: object
    data: object


def output_types(labels: int) -> list[dict[str, Any]]:
    """Return the V2 output tensors; `probabilities` are in the order of the bundle's labels."""
    shapes = {"probabilities": [-1, labels], "top_labels": [-1, -1], "top_confidences": [-1, -1]}
    return [
        {"name": name, "datatype": "BYTES" if "label" in name else "FP32", "shape": shapes.get(name, [-1])}
        for name in OUTPUTS
    ]


def read_v1(body: bytes) -> Question:
    """Read a V1 request, whatever its content type says.

    Raises:
        BadRequest: it is of another shape; the message says what was found and what is wanted.
    """
    payload = _json(body, _V1_SHAPE)
    if "instances" not in payload:
        raise BadRequest(f"the body has no 'instances': send {_V1_SHAPE}")
    instances = payload["instances"]
    if not isinstance(instances, list):
        raise BadRequest(f"'instances' is a JSON {_kind(instances)}: send {_V1_SHAPE}")
    texts = [_v1_text(instance, number) for number, instance in enumerate(instances)]
    top_k, timeout = _parameters(payload.get("parameters"))
    return Question(_checked(texts), "", top_k, timeout)


def read_v2(body: bytes, json_length: str | None) -> Question:
    """Read a V2 request that came over HTTP.

    Args:
        body: JSON, and the binary tensors behind it.
        json_length: the header `inference-header-content-length`; none where all of the body is JSON.

    Raises:
        BadRequest: it is of another shape.
    """
    head = body
    if json_length is not None:
        digits = json_length.isascii() and json_length.isdigit() and len(json_length) < 20
        if not digits or int(json_length) > len(body):
            raise BadRequest(
                f"inference-header-content-length is '{json_length[:20]}' and the body has {len(body)} bytes: "
                "send the length of its JSON part"
            )
        head = body[: int(json_length)]
    payload = _json(head, _V2_SHAPE)
    inputs = payload.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(tensor, dict) for tensor in inputs):
        raise BadRequest(f"the body has no list 'inputs' of tensors: send {_V2_SHAPE}")
    raw = body[len(head) :]
    tensors = []
    for tensor in inputs:
        data = tensor.get("data")
        size = _whole(_dict(tensor.get("parameters"), "parameters").get("binary_data_size"))
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(raw):
                raise BadRequest(f"binary_data_size is {_short(size)} and {len(raw)} bytes follow: send their number")
            data, raw = raw[:size], raw[size:]
        tensors.append(Tensor(tensor.get("name"), tensor.get("datatype"), tensor.get("shape"), data))
    if raw:
        raise BadRequest(f"{len(raw)} bytes follow the tensors: send the binary_data_size of each tensor")
    parameters = _dict(payload.get("parameters"), "parameters")
    every = _flag(parameters, "binary_data_output", False)
    outputs = [] if payload.get("outputs") is None else payload["outputs"]
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise BadRequest('\'outputs\' is no list of tensors: send [{"name": "label"}], or leave it out')
    binary = {}
    for output in outputs:
        name = output.get("name")
        if not isinstance(name, str):
            raise BadRequest(f"an output has the name {_short(name)}: ask for {', '.join(OUTPUTS)}")
        binary[name] = _flag(_dict(output.get("parameters"), "parameters"), "binary_data", every)
    return _v2(tensors, payload.get("id"), parameters, binary, every)


def read_grpc(request: InferRequest) -> Question:
    """Read a V2 request that came over gRPC; its answer is binary if the request is.

    Raises:
        BadRequest: it is of another shape.
    """
    tensors = [
        Tensor(
            tensor.name, tensor.datatype, tensor.shape, tensor.data if tensor._raw_data is None else tensor._raw_data
        )
        for tensor in request.inputs
    ]
    raw = request.use_binary_outputs
    binary = {output.name: raw for output in request.request_outputs or ()}
    return _v2(tensors, request.id, to_http_parameters(request.parameters or {}), binary, raw)


def read_deadline(header: bytes | None) -> float | None:
    """Return the seconds a gateway is going to wait, from the milliseconds in its header; none where it does not say.

    Raises:
        BadRequest: the header holds something else.
    """
    if header is None:
        return None
    if not header.isdigit() or len(header) > 10 or not int(header):
        raise BadRequest(f"{DEADLINE_HEADER} is {_short(header)}: send milliseconds, from 1 on")
    return int(header) / 1000


def _v2(
    tensors: Sequence[Tensor], request_id: object, parameters: dict[str, Any], asked: dict[str, bool], every: bool
) -> Question:
    """Make the question of a V2 request; `asked` are the outputs it wants, and whether as bytes."""
    if [tensor.name for tensor in tensors] != ["text"]:
        found = ", ".join(_short(tensor.name) for tensor in tensors) or "none"
        raise BadRequest(f"the request has the input tensors {found}: send one, named 'text'")
    if request_id is not None and not isinstance(request_id, str):
        raise BadRequest(f"'id' is a JSON {_kind(request_id)}: send a string, or leave it out")
    for name in asked:
        if name not in OUTPUTS:
            raise BadRequest(f"there is no output {_short(name)}: ask for {', '.join(OUTPUTS)}")
    top_k, timeout = _parameters(parameters)
    names = tuple(name for name in OUTPUTS if name in (asked or _USUAL))
    if not asked and top_k:
        names += TOP
    binary = frozenset(name for name in names if asked.get(name, every))
    return Question(_checked(_v2_texts(tensors[0])), request_id or "", top_k, timeout, names, binary)


def _v2_texts(tensor: Tensor) -> list[str]:
    if tensor.datatype != "BYTES":
        raise BadRequest(f"input 'text' has datatype {_short(tensor.datatype)}: send BYTES")
    shape = list(map(_whole, tensor.shape)) if isinstance(tensor.shape, list) else tensor.shape
    if not isinstance(shape, list) or not shape or any(type(size) is not int or size < 0 for size in shape):
        raise BadRequest(f"input 'text' has shape {_short(shape)}: send the number of texts, as [2]")
    values = _unpacked(tensor.data) if isinstance(tensor.data, bytes) else _flat(tensor.data)
    if len(values) != math.prod(shape):
        raise BadRequest(f"input 'text' has {len(values)} elements but shape {shape}: send the number of texts")
    return [_v2_text(value, number) for number, value in enumerate(values)]


def _unpacked(raw: bytes) -> list[bytes]:
    """Return the strings of a binary tensor, each behind its length in four bytes, the least first."""
    strings: list[bytes] = []
    at = 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if at + 4 > len(raw) or end > len(raw):
            raise BadRequest(f"input 'text' breaks off in string {len(strings)}: send length-prefixed strings")
        strings.append(raw[at + 4 : end])
        at = end
    return strings


def _flat(data: object) -> list[Any]:
    """Flatten nested JSON arrays of any shape; a loop, so that depth costs no stack."""
    if not isinstance(data, list):
        raise BadRequest(f"the data of input 'text' is a JSON {_kind(data)}: send a list of strings")
    flat: list[Any] = []
    left = data[::-1]
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
            raise BadRequest(f"text {number} is not UTF-8 (byte {error.start}): send UTF-8") from None
    raise BadRequest(f"element {number} of input 'text' is a JSON {_kind(value)}: send a string")


def _v1_text(instance: object, number: int) -> str:
    if isinstance(instance, dict) and set(instance) == {"text"}:
        instance = instance["text"]
    if not isinstance(instance, str):
        raise BadRequest(f'instance {number} is a JSON {_kind(instance)}: send a string, or {{"text": "a text"}}')
    return instance


def _checked(texts: list[str]) -> list[str]:
    if not texts:
        raise BadRequest("the request has no texts: send at least one")
    return texts


def _parameters(parameters: object) -> tuple[int | None, float | None]:
    """Return `top_k`, and `timeout` in seconds; on the wire it counts microseconds, as Triton's parameter does."""
    given = _dict(parameters, "parameters")
    top_k, timeout = (_whole(given.get(name)) for name in ("top_k", "timeout"))
    for name, value in (("top_k", top_k), ("timeout", timeout)):
        if value is not None and (type(value) is not int or value < 1):
            raise BadRequest(f"parameter {name} is {_short(value)}: send a whole number from 1 on")
    return top_k, timeout / 1e6 if timeout else None


def _whole(value: Any) -> Any:
    """Make an integer of what JSON Schema counts as one, such as 3.0; the parser makes floats of those past 64 bits."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**64 else value


def _json(body: bytes, wanted: str) -> dict[str, Any]:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON ({error}): send {wanted}") from None
    if not isinstance(payload, dict):
        raise BadRequest(f"the body is a JSON {_kind(payload)}: send {wanted}")
    return payload


def _dict(value: object, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"'{name}' is a JSON {_kind(value)}: send an object, or leave it out")
    return value


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"parameter {name} is {_short(value)}: send true or false")
    return value


def _kind(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
