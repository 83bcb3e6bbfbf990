"""Reads requests: V1 JSON, V2 JSON, V2 binary and gRPC become the same InferenceRequest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import DecodeError
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.errors import BadRequest, NotServed
from predictor.records import ID_CHARACTERS
from predictor.serving.wire.bounds import check_message
from predictor.serving.wire.outputs import OUTPUTS, OUTPUTS_OF_SETS, SCORE, SET, SEVERAL, TOP, USUAL, USUAL_SETS
from predictor.serving.wire.tensors import Tensor, check_count, check_dimensions, tensor_texts
from predictor.serving.wire.values import as_integer, excerpt, flag, json_object, json_type, object_or_empty

_PARAMETERS = ("top_k", "timeout", "coverage")
# With this header Envoy, and every gateway that is built on it, says how long it is going to wait.
DEADLINE_HEADER = "x-envoy-expected-rq-timeout-ms"
# Texts of a request for an explanation that are read: of the second one more is said than that it is too many.
_EXPLAINED = 1000
_V1_SHAPE = '{"instances": ["a text", ...]}'
_V2_SHAPE = '{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a text"]}]}'


@dataclass(frozen=True)
class InferenceRequest:
    """A request of any protocol."""

    texts: list[str]
    """At least one, unless empty ones are left out."""
    id: str = ""
    """As the caller gave it in the body; empty where it did not."""
    top_k: int | None = None
    timeout: float | None = None
    """Seconds."""
    outputs: tuple[str, ...] = USUAL
    binary: frozenset[str] = frozenset()
    """Outputs to send as binary tensors; over gRPC all or none of them."""
    coverage: float | None = None
    """How often a text's set of labels is to hold the true one; None where no sets are asked for."""
    chosen: bool = False
    """Whether the caller named the outputs."""
    numbers: Sequence[int] | None = None
    """Of each text among those that were sent, where empty ones are left out; None where an empty one is refused."""
    sent: int = 0
    """How many texts were sent, where empty ones are left out."""

    def without(self, places: Sequence[int]) -> "InferenceRequest":
        """Return the request without the texts at some places, which turned out to be empty."""
        assert self.numbers is not None
        empty = set(places)
        kept = [place for place in range(len(self.texts)) if place not in empty]
        return replace(
            self, texts=[self.texts[place] for place in kept], numbers=[self.numbers[place] for place in kept]
        )

    def of_model(self, ordinal: bool, multi_label: bool = False) -> "InferenceRequest":
        """Return the request with the outputs of the model where nobody chose others, such as the score.

        Raises:
            BadRequest: it asks for what the model has not, as for a score where labels have no order.
        """
        if multi_label:
            return self._of_sets()
        if SEVERAL in self.outputs:
            raise BadRequest(f"output '{SEVERAL}' is asked for, but a text has one label here: ask for label")
        if not ordinal and SCORE in self.outputs:
            raise BadRequest(f"output '{SCORE}' is asked for, but the labels of this model have no order: leave it out")
        if not ordinal or self.chosen:
            return self
        binary = self.binary | {SCORE} if self.binary else self.binary
        return replace(self, outputs=(*self.outputs, SCORE), binary=binary)

    def _of_sets(self) -> "InferenceRequest":
        """Return the request as one of a multi-label model."""
        if self.coverage:
            raise BadRequest("coverage is asked for, but texts of this model may have several labels: leave it out")
        if not self.chosen:
            outputs = USUAL_SETS + (TOP if self.top_k else ())
            return replace(self, outputs=outputs, binary=frozenset(outputs if self.binary else ()))
        if other := next((name for name in self.outputs if name not in OUTPUTS_OF_SETS), ""):
            have = ", ".join(OUTPUTS_OF_SETS)
            raise BadRequest(f"output '{other}' is of models with one label a text: ask for {have}")
        return self

    def values(self, labels: int) -> int:
        """Return how many values the answer has if the model has so many labels."""
        best = min(self.top_k or labels, labels)
        of_a_text = {"probabilities": labels, SET: labels, **dict.fromkeys(TOP, best)}
        asked = {*self.outputs, *(TOP if self.top_k else ()), *((SET,) if self.coverage else ())}
        return len(self.texts) * sum(of_a_text.get(name, 1) for name in asked)


def read_v1(body: bytes, most: int) -> InferenceRequest:
    """Read a V1 request, whatever its content type.

    Args:
        body: JSON.
        most: the most texts of a request.

    Raises:
        BadRequest: its shape is wrong; the message says what was found and what to send.
        TooLarge: it has more texts.
    """
    payload = json_object(body, most, _V1_SHAPE)
    if "instances" not in payload:
        raise BadRequest(f"the body has no 'instances': send {_V1_SHAPE}")
    instances = payload["instances"]
    if not isinstance(instances, list):
        raise BadRequest(f"'instances' is a JSON {json_type(instances)}: send {_V1_SHAPE}")
    check_count(len(instances), most)
    texts = [_v1_text(instance, number) for number, instance in enumerate(instances)]
    top_k, timeout, coverage = _parameters(payload.get("parameters"))
    return InferenceRequest(_checked(texts), "", top_k, timeout, coverage=coverage)


def read_one(body: bytes) -> InferenceRequest:
    """Read a V1 request for an explanation, which is of one text.

    Raises:
        BadRequest: its shape is wrong, or it has more texts.
    """
    request = read_v1(body, _EXPLAINED)
    if len(request.texts) > 1:
        raise BadRequest(f"the request has {len(request.texts)} texts: send one, since explanations take long")
    return request


def read_v2(body: bytes, json_length: str | None, most: int) -> InferenceRequest:
    """Read a V2 request that came over HTTP.

    Args:
        body: JSON, and after it the binary tensor.
        json_length: the header `inference-header-content-length`; None where all of the body is JSON.
        most: the most texts of a request.

    Raises:
        BadRequest: its shape is wrong.
        TooLarge: it has more texts.
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
    payload = json_object(head, most, _V2_SHAPE)
    inputs = payload.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(tensor, dict) for tensor in inputs):
        raise BadRequest(f"the body has no list 'inputs' of tensors: send {_V2_SHAPE}")
    _one_text([tensor.get("name") for tensor in inputs])
    (tensor,) = inputs
    data = tensor.get("data")
    follow = len(body) - len(head)
    size = as_integer(object_or_empty(tensor.get("parameters"), "parameters").get("binary_data_size"))
    if size is not None:
        if type(size) is not int or not 0 <= size <= follow:
            raise BadRequest(f"binary_data_size is {excerpt(size)} and {follow} bytes follow: send their number")
        data = body[len(head) : len(head) + size]
    if follow > (size or 0):
        raise BadRequest(f"{follow - (size or 0)} bytes follow the tensor: send its binary_data_size")
    parameters = object_or_empty(payload.get("parameters"), "parameters")
    every = flag(parameters, "binary_data_output", False)
    outputs = [] if payload.get("outputs") is None else payload["outputs"]
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise BadRequest('\'outputs\' is no list of tensors: send [{"name": "label"}], or leave it out')
    _few_outputs(len(outputs))
    binary = {}
    for output in outputs:
        name = output.get("name")
        if not isinstance(name, str):
            raise BadRequest(f"an output has the name {excerpt(name)}: ask for {', '.join(OUTPUTS)}")
        binary[name] = flag(object_or_empty(output.get("parameters"), "parameters"), "binary_data", every)
    asked = Tensor(tensor.get("datatype"), tensor.get("shape"), data)
    return _v2(asked, payload.get("id"), parameters, binary, every, most)


def read_grpc(message: bytes, model: str, most: int) -> InferenceRequest:
    """Read a V2 request that came over gRPC; the answer is binary if the request is.

    Args:
        message: a serialised ModelInferRequest.
        model: the model that is served.
        most: the most texts of a request.

    Raises:
        BadRequest: its shape is wrong.
        NotServed: it is for another model.
        TooLarge: it has more texts.
    """
    check_message(message, most)
    try:
        request = pb.ModelInferRequest.FromString(message)
    except DecodeError:
        raise BadRequest("the message is no ModelInferRequest: make it from grpc_predict_v2.proto") from None
    if request.model_name != model:
        raise NotServed(f"there is no model {excerpt(request.model_name)}: ask for '{model}'")
    _one_text([tensor.name for tensor in request.inputs])
    _few_outputs(len(request.outputs))
    (tensor,) = request.inputs
    raw = request.raw_input_contents
    if raw and tensor.HasField("contents"):
        raise BadRequest("the texts are in 'contents' and in 'raw_input_contents': send one of them")
    if len(raw) > 1:
        raise BadRequest(f"{len(raw)} raw_input_contents come with one input tensor: send one")
    check_dimensions(tensor.shape)
    if not raw:
        check_count(len(tensor.contents.bytes_contents), most)
    data = raw[0] if raw else list(tensor.contents.bytes_contents)
    given = {name: _parameter(name, request.parameters[name]) for name in _PARAMETERS if name in request.parameters}
    binary = {output.name: bool(raw) for output in request.outputs}
    return _v2(Tensor(tensor.datatype, list(tensor.shape), data), request.id, given, binary, bool(raw), most)


def read_deadline(header: bytes | None) -> float | None:
    """Return the seconds that a gateway is going to wait, from the milliseconds in its header; None without one.

    Raises:
        BadRequest: the header is not a number of milliseconds.
    """
    if header is None:
        return None
    if not header.isdigit() or len(header) > 10 or not int(header):
        raise BadRequest(f"{DEADLINE_HEADER} is {excerpt(header)}: send milliseconds, from 1 on")
    return int(header) / 1000


def _v2(
    tensor: Tensor, request_id: object, parameters: dict[str, Any], asked: dict[str, bool], every: bool, most: int
) -> InferenceRequest:
    """Check a V2 request; `asked` has the outputs that it names, and whether each is to be binary."""
    if request_id is not None and not isinstance(request_id, str):
        raise BadRequest(f"'id' is a JSON {json_type(request_id)}: send a string, or leave it out")
    if request_id and len(request_id) > ID_CHARACTERS:
        raise BadRequest(f"'id' has {len(request_id)} characters: send {ID_CHARACTERS} at most")
    known = (*OUTPUTS, SEVERAL)
    for name in asked:
        if name not in known:
            raise BadRequest(f"there is no output {excerpt(name)}: ask for {', '.join(OUTPUTS)}")
    top_k, timeout, coverage = _parameters(parameters)
    if SET in asked and not coverage:
        raise BadRequest(f"output '{SET}' is asked for without the parameter coverage: send both")
    names = tuple(name for name in known if name in (asked or USUAL))
    if not asked:
        names += (TOP if top_k else ()) + ((SET,) if coverage else ())
    binary = frozenset(name for name in names if asked.get(name, every))
    texts = _checked(tensor_texts(tensor, most))
    return InferenceRequest(texts, request_id or "", top_k, timeout, names, binary, coverage, bool(asked))


def _one_text(names: Sequence[object]) -> None:
    if len(names) != 1 or names[0] != "text":
        found = ", ".join(map(excerpt, names[:3])) or "none"
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise BadRequest(f"the request has the input tensors {found}{more}: send one, named 'text'")


def _few_outputs(count: int) -> None:
    if count > len(OUTPUTS):
        raise BadRequest(f"{count} outputs are asked for: ask for each of {', '.join(OUTPUTS)} once at most")


def _v1_text(instance: object, number: int) -> str:
    if isinstance(instance, dict) and set(instance) == {"text"}:
        instance = instance["text"]
    if not isinstance(instance, str):
        raise BadRequest(f'instance {number} is a JSON {json_type(instance)}: send a string, or {{"text": "a text"}}')
    return instance


def _checked(texts: list[str]) -> list[str]:
    if not texts:
        raise BadRequest("the request has no texts: send at least one")
    return texts


def _parameters(parameters: object) -> tuple[int | None, float | None, float | None]:
    """Return `top_k`, `timeout` in seconds, and `coverage`; a timeout comes in microseconds, as Triton's does."""
    given = object_or_empty(parameters, "parameters")
    top_k, timeout, coverage = (as_integer(given.get(name)) for name in _PARAMETERS)
    for name, value in (("top_k", top_k), ("timeout", timeout)):
        if value is not None and (type(value) is not int or value < 1):
            raise BadRequest(f"parameter {name} is {excerpt(value)}: send a whole number from 1 on")
    if coverage is not None and (type(coverage) is not float or not 0 < coverage < 1):
        raise BadRequest(f"parameter coverage is {excerpt(coverage)}: send a share such as 0.9")
    return top_k, timeout / 1e6 if timeout else None, coverage


def _parameter(name: str, given: pb.InferParameter) -> Any:
    choice = given.WhichOneof("parameter_choice")
    value = None if choice is None else getattr(given, choice)
    if name == "coverage" and isinstance(value, str):  # a parameter of gRPC cannot be a fraction
        try:
            return float(value)
        except ValueError:
            return value
    return value
