import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.errors import BadRequest
from predictor.model.conformal import Conformal, Level
from predictor.serving.wire.outputs import OUTPUTS
from predictor.serving.wire.requests import InferenceRequest, read_deadline, read_grpc, read_v1, read_v2
from predictor.serving.wire.responses import Model, grpc_answer, v1_answer, v2_answer

MOST = 1000
LABELS = ["Business", "Sports", "World"]
ROWS = np.array([[0.2, 0.7, 0.1], [1 / 3, 1 / 3, 1 / 3]], dtype=np.float32)
LEVEL = Level(coverage=0.9, threshold=float(ROWS[0, 0]), low=0.8, high=1.0)
MODEL = Model("m", "v", LABELS, Conformal(rows=9, levels=[LEVEL]))
SETS = [["Sports", "Business"], ["Business", "Sports", "World"]]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("text") | JSON,
        "datatype": st.just("BYTES") | JSON,
        "shape": st.just([1]) | JSON,
        "data": st.lists(st.text(max_size=5), min_size=1, max_size=1) | JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-2, 12) | JSON}) | JSON,
    },
)
PARAMETERS = st.fixed_dictionaries({}, optional={"top_k": JSON, "timeout": JSON, "binary_data_output": JSON}) | JSON
V2 = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "inputs": st.lists(TENSOR, max_size=2) | JSON,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(OUTPUTS) | JSON}) | JSON, max_size=3) | JSON,
        "parameters": PARAMETERS,
    },
)
V1 = st.fixed_dictionaries(
    {}, optional={"instances": st.lists(st.text(max_size=5) | JSON, max_size=3) | JSON, "parameters": PARAMETERS}
)


def sound(question: InferenceRequest) -> None:
    assert question.texts and all(isinstance(text, str) for text in question.texts)
    assert question.top_k is None or question.top_k >= 1
    assert question.timeout is None or question.timeout > 0
    assert set(question.binary) <= set(question.outputs) <= set(OUTPUTS)


@given((V1 | JSON).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
def test_whatever_comes_over_v1_is_a_sound_question_or_a_bad_request(body: bytes) -> None:
    try:
        sound(read_v1(body, MOST))
    except BadRequest as refusal:
        assert str(refusal).encode()


@given(V2 | JSON, st.binary(max_size=12), st.sampled_from(["exact", "none", "9" * 30, "-1", "²", "3"]))
def test_whatever_comes_over_v2_is_a_sound_question_or_a_bad_request(value: Any, raw: bytes, length: str) -> None:
    head = json.dumps(value).encode()
    given_length = {"exact": str(len(head)), "none": None}.get(length, length)
    try:
        sound(read_v2(head + raw, given_length, MOST))
    except BadRequest as refusal:
        assert str(refusal).encode()


@given(
    st.lists(st.binary(max_size=12), max_size=1),
    st.sampled_from(["text", "other", ""]),
    st.sampled_from(["BYTES", "INT32", "STRING"]),
    st.lists(st.integers(-2, 3), max_size=2),
    st.lists(st.binary(max_size=4), max_size=3),
)
def test_whatever_comes_over_grpc_is_a_sound_question_or_a_bad_request(
    raw: list[bytes], name: str, datatype: str, shape: list[int], data: list[bytes]
) -> None:
    contents = None if raw else pb.InferTensorContents(bytes_contents=data)
    tensor = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, contents=contents)
    request = pb.ModelInferRequest(model_name="toy", inputs=[tensor], raw_input_contents=raw)
    try:
        sound(read_grpc(request.SerializeToString(), "toy", MOST))
    except BadRequest as refusal:
        assert str(refusal).encode()


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5), st.integers(1, 5))
def test_every_protocol_reads_the_same_question(texts: list[str], top_k: int) -> None:
    raw = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)]}
    floats = {"top_k": float(top_k), "timeout": 1.5e6}  # which JSON Schema counts as integers
    parameters = {"top_k": top_k, "timeout": 1_500_000}
    plain = json.dumps({"inputs": [{**tensor, "data": texts}], "parameters": parameters}).encode()
    head = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}], "parameters": parameters}
    ).encode()
    grpc_tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(texts)])
    grpc_request = pb.ModelInferRequest(
        model_name="toy",
        inputs=[grpc_tensor],
        raw_input_contents=[raw],
        parameters={name: pb.InferParameter(int64_param=value) for name, value in parameters.items()},
    )
    questions = [
        read_v1(json.dumps({"instances": texts, "parameters": parameters}).encode(), MOST),
        read_v1(json.dumps({"instances": texts, "parameters": floats}).encode(), MOST),
        read_v2(plain, None, MOST),
        read_v2(head + raw, str(len(head)), MOST),
        read_v2(
            json.dumps(
                {"inputs": [{**tensor, "shape": [float(len(texts))], "data": texts}], "parameters": floats}
            ).encode(),
            None,
            MOST,
        ),
        read_grpc(grpc_request.SerializeToString(), "toy", MOST),
    ]
    for question in questions:
        assert (question.texts, question.top_k, question.timeout) == (texts, top_k, 1.5)
    assert questions[2].binary == frozenset() and questions[-1].binary == frozenset(questions[-1].outputs)


def test_every_protocol_says_the_same_numbers_bit_for_bit() -> None:
    question = InferenceRequest(["a", "b"], "id", 2, None, OUTPUTS, coverage=0.9)
    v1 = json.loads(v1_answer(question, MODEL, ROWS))
    body, length = v2_answer(question, MODEL, ROWS)
    assert length is None
    v2 = {tensor["name"]: tensor for tensor in json.loads(body)["outputs"]}
    binary, length = v2_answer(
        InferenceRequest(["a", "b"], "id", 2, None, OUTPUTS, frozenset(OUTPUTS), 0.9), MODEL, ROWS
    )
    assert length is not None
    raw = binary[length:]
    parts = {}
    for tensor in json.loads(binary[:length])["outputs"]:
        size = tensor["parameters"]["binary_data_size"]
        parts[tensor["name"]], raw = raw[:size], raw[size:]
    assert raw == b""
    grpc = {tensor.name: tensor for tensor in grpc_answer(question, MODEL, ROWS).outputs}

    assert v2["probabilities"]["data"] == ROWS.ravel().tolist()
    assert v2["probabilities"]["shape"] == [2, 3] == list(grpc["probabilities"].shape)
    for name in ("confidence", "probabilities", "top_confidences"):
        assert np.frombuffer(parts[name], "<f4").tolist() == v2[name]["data"] == list(grpc[name].contents.fp32_contents)
    for name in ("label", "top_labels", "set"):
        strings = [text.encode() for text in v2[name]["data"]]
        assert list(grpc[name].contents.bytes_contents) == strings
        assert parts[name] == b"".join(struct.pack("<I", len(text)) + text for text in strings)
    assert [row["label"] for row in v1["predictions"]] == v2["label"]["data"] == ["Sports", "Business"]
    assert [row["confidence"] for row in v1["predictions"]] == v2["confidence"]["data"]
    assert [best["label"] for row in v1["predictions"] for best in row["top_k"]] == v2["top_labels"]["data"]
    assert v2["top_labels"]["data"] == ["Sports", "Business", "Business", "Sports"]
    assert [best["confidence"] for row in v1["predictions"] for best in row["top_k"]] == v2["top_confidences"]["data"]
    assert [row["set"] for row in v1["predictions"]] == SETS
    assert v2["set"]["shape"] == [2, 3] and v2["set"]["data"] == [*SETS[0], "", *SETS[1]]


def test_more_than_all_classes_is_all_classes() -> None:
    body, _ = v2_answer(InferenceRequest(["a", "b"], "", 9, None, ("top_labels",)), MODEL, ROWS)
    assert json.loads(body)["outputs"][0]["shape"] == [2, 3]


@pytest.mark.parametrize(
    "body",
    [b'{"instances": ["\\ud800"]}', b"[" * 100_000, b'{"instances": ' + b"[" * 5000],
    ids=["surrogate", "nested", "nested instances"],
)
def test_lone_surrogates_and_nesting_without_end_are_no_json(body: bytes) -> None:
    with pytest.raises(BadRequest, match="not JSON"):
        read_v1(body, 100_000)


def test_a_gateways_deadline_is_in_milliseconds() -> None:
    assert (read_deadline(b"1500"), read_deadline(None)) == (1.5, None)
    for header in (b"0", b"soon", b"-1", b"9" * 11, b""):
        with pytest.raises(BadRequest, match="send milliseconds"):
            read_deadline(header)


@pytest.mark.parametrize("given", [0, 1, True, "0.9", 1.5, -0.1, [0.9]])
def test_a_coverage_that_is_no_share_is_refused(given: Any) -> None:
    body = {"instances": ["a"], "parameters": {"coverage": given}}
    with pytest.raises(BadRequest, match=r"parameter coverage is .*: send a share such as 0\.9"):
        read_v1(json.dumps(body).encode(), MOST)


def test_a_coverage_is_a_string_over_grpc_and_sets_need_one() -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(b"a")
    request = pb.ModelInferRequest(model_name="toy", inputs=[tensor])
    request.outputs.add(name="set")
    with pytest.raises(BadRequest, match="output 'set' is asked for without the parameter coverage"):
        read_grpc(request.SerializeToString(), "toy", MOST)
    request.parameters["coverage"].string_param = "0.95"
    assert read_grpc(request.SerializeToString(), "toy", MOST).coverage == 0.95
    request.parameters["coverage"].string_param = "most"
    with pytest.raises(BadRequest, match="parameter coverage is 'most'"):
        read_grpc(request.SerializeToString(), "toy", MOST)
