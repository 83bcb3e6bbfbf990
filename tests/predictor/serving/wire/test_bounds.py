"""What a request costs grows with its length at most, whatever it holds, and a refusal is short whatever was sent."""

import asyncio
import json
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.errors import Refusal, TooLarge
from predictor.records import ID_CHARACTERS
from predictor.serving.wire.bounds import SMALL, check_json
from predictor.serving.wire.requests import InferenceRequest, read_grpc, read_v1, read_v2
from predictor.serving.wire.tensors import RANK
from tests.fakes.engine import GatedEngine
from tests.predictor.serving.batching import batcher_of

MOST = 2000
"""Texts of a request here."""
Tensor = pb.ModelInferRequest.InferInputTensor


class Copied(bytes):
    """Counts the bytes that are copied out of it, and out of what was copied."""

    bytes_copied = 0

    def __getitem__(self, where: Any) -> Any:
        got = super().__getitem__(where)
        if isinstance(got, int):
            return got
        Copied.bytes_copied += len(got)
        return Copied(got)


def steps_of(work: Callable[[], object]) -> int:
    """Return how many lines of ours are run."""
    count = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace if "/predictor/" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def v2(**more: Any) -> bytes:
    return json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"], **more}]}).encode()


def message(*, raw: tuple[bytes, ...] = (), **more: Any) -> bytes:
    contents = None if raw else pb.InferTensorContents(bytes_contents=more.pop("texts", [b"a"]))
    tensor = Tensor(name="text", datatype="BYTES", shape=more.pop("shape", [1]), contents=contents)
    fields = {"model_name": "toy", "inputs": [tensor], "raw_input_contents": raw, **more}
    return bytes(pb.ModelInferRequest(**fields).SerializeToString())


def many_tensors(count: int) -> tuple[bytes, str]:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 9}}
    head = json.dumps({"inputs": [tensor] * count}).encode()
    return head + b"\x05\0\0\0abcde" * count, str(len(head))


def binary(count: int) -> tuple[bytes, str]:
    raw = b"\x01\0\0\0a" * count
    head = v2(shape=[count], data=None, parameters={"binary_data_size": len(raw)})
    return head + raw, str(len(head))


def read_asked(asked: tuple[bytes, str | None]) -> InferenceRequest:
    return read_v2(asked[0], asked[1], MOST)


def plain(body: bytes) -> tuple[bytes, None]:
    return body, None


# A request of about n values, and what reads it.
GROWING: dict[str, tuple[Callable[[Any], InferenceRequest], Callable[[int], Any]]] = {
    "v1 texts": (lambda body: read_v1(body, MOST), lambda n: b'{"instances": [%b"a"]}' % (b'"a",' * n)),
    "v1 objects": (lambda body: read_v1(body, MOST), lambda n: b'{"instances": [%b{}]}' % (b'{"text":"a"},' * n)),
    "v1 lists": (lambda body: read_v1(body, MOST), lambda n: b'{"instances": [%b[]]}' % (b"[]," * n)),
    "v1 parameters": (
        lambda body: read_v1(body, MOST),
        lambda n: json.dumps({"instances": ["a"], "parameters": {str(i): i for i in range(n)}}).encode(),
    ),
    "v1 one value": (lambda body: read_v1(body, MOST), lambda n: json.dumps({"instances": [1, "a" * n]}).encode()),
    "v2 dimensions": (read_asked, lambda n: plain(v2(shape=[2**62] * n))),
    "v2 nested lists": (read_asked, lambda n: plain(v2(data=[[[]]] * n))),
    "v2 texts": (read_asked, lambda n: plain(v2(shape=[n], data=["a"] * n))),
    "v2 outputs": (
        read_asked,
        lambda n: plain(json.dumps({**json.loads(v2()), "outputs": [{"name": "label"}] * n}).encode()),
    ),
    "v2 id": (
        read_asked,
        lambda n: plain(json.dumps({**json.loads(v2()), "id": "x" * n}).encode()),
    ),
    "v2 datatype": (read_asked, lambda n: plain(v2(datatype=["x" * n, [["y"] * n]]))),
    "v2 size": (read_asked, lambda n: plain(v2(parameters={"binary_data_size": ["x"] * n}))),
    "v2 names": (read_asked, lambda n: plain(v2(name="x" * n))),
    "binary tensors": (read_asked, many_tensors),
    "binary texts": (read_asked, binary),
    "grpc dimensions": (lambda sent: read_grpc(sent, "toy", MOST), lambda n: message(shape=[2**62] * n)),
    "grpc tensors": (lambda sent: read_grpc(sent, "toy", MOST), lambda n: message(inputs=[Tensor()] * n)),
    "grpc texts": (lambda sent: read_grpc(sent, "toy", MOST), lambda n: message(shape=[n], texts=[b"a"] * n)),
    "grpc raw texts": (
        lambda sent: read_grpc(sent, "toy", MOST),
        lambda n: message(shape=[n], raw=(b"\x01\0\0\0a" * n,)),
    ),
    "grpc raw tensors": (lambda sent: read_grpc(sent, "toy", MOST), lambda n: message(raw=(b"",) * n)),
    "grpc outputs": (lambda sent: read_grpc(sent, "toy", MOST), lambda n: message(outputs=[{"name": "label"}] * n)),
    "grpc parameters": (
        lambda sent: read_grpc(sent, "toy", MOST),
        lambda n: message(parameters={str(i): {"int64_param": i} for i in range(n)}),
    ),
    "grpc model": (lambda sent: read_grpc(sent, "toy", MOST), lambda n: message(model_name="x" * n)),
    "grpc id": (lambda sent: read_grpc(sent, "toy", MOST), lambda n: message(id="x" * n)),
    "grpc nothing": (lambda sent: read_grpc(sent, "toy", MOST), lambda n: b"\xff" * n),
}


@pytest.mark.parametrize("name", GROWING)
def test_what_reading_costs_grows_with_the_length_at_most(name: str) -> None:
    read, make = GROWING[name]

    for size in (4000, 32_000):
        sent = make(size)
        asked = (Copied(sent[0]), sent[1]) if isinstance(sent, tuple) else sent
        length = len(sent[0] if isinstance(sent, tuple) else sent)

        def once(asked: Any = asked) -> None:
            try:
                read(asked)
            except Refusal as refusal:
                assert len(str(refusal)) < 400 and refusal.status in (400, 404, 413)

        Copied.bytes_copied = 0
        steps = steps_of(once)
        assert steps <= 20 * length + 1000
        assert steps <= 60 * MOST + 20 * 65_536  # a request is no more work than one that is taken, however long it is
        assert Copied.bytes_copied <= 3 * length + 1000
        tracemalloc.start()
        once()
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert held <= 12 * length + 3_000_000


def test_what_may_be_asked_is_read_up_to_its_bound() -> None:
    objects = [{"text": f'a, "b": [{n}], \\'} for n in range(MOST)]
    texts = [instance["text"] for instance in objects]
    body = json.dumps({"instances": objects}).encode()
    assert len(body) > SMALL and read_v1(body, MOST).texts == texts
    signs = ',:[{"\\' * 20_000  # in a text they are not values
    assert read_v1(json.dumps({"instances": [signs, {"text": signs}]}).encode(), MOST).texts == [signs] * 2
    shape = [1] * (RANK - 1) + [MOST]
    asked = json.loads(v2(shape=shape, data=[[text] for text in texts]))
    question = read_v2(json.dumps({**asked, "id": "i" * ID_CHARACTERS}).encode(), None, MOST)
    assert question.texts == texts
    encoded = [text.encode() for text in texts]
    assert read_grpc(message(shape=shape, texts=encoded, id="i" * ID_CHARACTERS), "toy", MOST).texts == texts
    assert read_grpc(message(texts=[b"x" * 200_000]), "toy", MOST).texts == ["x" * 200_000]
    too_many: list[Callable[[], InferenceRequest]] = [
        lambda: read_v1(json.dumps({"instances": [*objects, "a"]}).encode(), MOST),
        lambda: read_v2(v2(shape=[MOST + 1], data=["a"] * (MOST + 1)), None, MOST),
        lambda: read_asked(binary(MOST + 1)),
        lambda: read_grpc(message(shape=[MOST + 1], texts=[b"a"] * (MOST + 1)), "toy", MOST),
    ]
    for read in too_many:
        with pytest.raises(TooLarge):
            read()


def test_values_are_counted_outside_of_texts_and_behind_any_escape() -> None:
    values = b"[" + b"[]," * 20_000 + b"[]]"
    for text in (rb"a", rb"\\", rb"\"", rb"\\\"", rb"\\\\", rb"\n\\", b"," * 50_000):
        with pytest.raises(TooLarge):
            check_json(b'{"a": "%b", "instances": %b}' % (text, values), 1000)
        check_json(b'{"a": "%b", "instances": ["%b"]}' % (text, values), 1000)


def test_leaving_costs_a_step_for_each_text_whoever_else_asks_for_it() -> None:
    async def steps(copies: int) -> int:
        engine = GatedEngine()
        batcher = batcher_of(engine)
        with batcher.call(1) as first:
            batcher.submit(first, [(0, [9], None)])  # keeps the lane
            calls = [batcher.call(copies) for _ in range(3)]
            for call in [call.__enter__() for call in calls]:
                batcher.submit(call, [(place, [1], b"same") for place in range(copies)])
            count = steps_of(lambda: [call.__exit__(None, None, None) for call in calls])
            engine.open()
        batcher.close()
        return count

    few, many = asyncio.run(steps(500)), asyncio.run(steps(2000))
    assert many <= 4.5 * few


def test_an_answer_has_as_many_values_as_are_asked_for() -> None:
    texts = ["a"] * 10
    assert InferenceRequest(texts).values(4) == 20
    assert InferenceRequest(texts, top_k=3).values(4) == InferenceRequest(texts, top_k=3).values(3) == 80
    assert InferenceRequest(texts, top_k=9).values(4) == 100
    assert InferenceRequest(texts, coverage=0.9).values(4) == 60
    assert InferenceRequest(texts, outputs=("probabilities", "top_labels")).values(1000) == 20_000
