"""The score of ordinal labels: what it is, and the same over every protocol and in the page."""

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from predictor.errors import BadRequest
from predictor.model.calibration import ordinal_scores, softmax
from predictor.serving.wire.openapi import document
from predictor.serving.wire.outputs import output_types
from predictor.serving.wire.requests import InferenceRequest, read_v2
from predictor.serving.wire.responses import Model, grpc_answer, v1_answer, v2_answer

LABELS = ["negative", "neutral", "positive"]
MODEL = Model("m", "v", LABELS, ordinal=True)
ROWS = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32)
USUAL = InferenceRequest(["a", "b"]).of_model(ordinal=True)


def _v2_body(**more: object) -> bytes:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
    return json.dumps({"inputs": [tensor], **more}).encode()


def test_the_score_is_the_mean_over_the_probabilities() -> None:
    assert ordinal_scores(ROWS) == pytest.approx([-0.6, 0.7])
    assert ordinal_scores(np.array([[0.25, 0.75]], dtype=np.float32)).tolist() == [0.5]
    assert ordinal_scores(np.eye(5, dtype=np.float32)).tolist() == [-1, -0.5, 0, 0.5, 1]
    assert ordinal_scores(ROWS[:0]).shape == (0,)


@given(arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(2, 9)), elements=st.floats(-30, 30, width=32)))
def test_a_score_is_within_bounds_and_the_same_in_any_company(logits: np.ndarray) -> None:
    rows = softmax(logits, 1.0)
    scores = ordinal_scores(rows)
    assert scores.dtype == np.float32 and (np.abs(scores) <= 1).all()
    assert [float(ordinal_scores(rows[place : place + 1])[0]) for place in range(len(rows))] == scores.tolist()
    assert ordinal_scores(rows[:, ::-1]) == pytest.approx(-scores, abs=1e-6)


def test_every_protocol_says_the_same_score_bit_for_bit() -> None:
    expected = ordinal_scores(ROWS).tolist()
    v1 = json.loads(v1_answer(USUAL, MODEL, ROWS))
    body, _ = v2_answer(USUAL, MODEL, ROWS)
    v2 = {tensor["name"]: tensor for tensor in json.loads(body)["outputs"]}
    grpc = {tensor.name: tensor for tensor in grpc_answer(USUAL, MODEL, ROWS).outputs}
    assert [row["score"] for row in v1["predictions"]] == expected == v2["score"]["data"]
    assert list(grpc["score"].contents.fp32_contents) == expected
    assert list(v2) == ["label", "confidence", "score"] == list(grpc)
    binary, length = v2_answer(replace(USUAL, binary=frozenset({"score"})), MODEL, ROWS)
    assert np.frombuffer(binary[length:], "<f4").tolist() == expected


def test_the_score_comes_unasked_and_can_be_left_out() -> None:
    usual = read_v2(_v2_body(parameters={"binary_data_output": True}), None, 10).of_model(ordinal=True)
    assert usual.outputs == ("label", "confidence", "score") and usual.binary == frozenset(usual.outputs)
    some = read_v2(_v2_body(outputs=[{"name": "label"}]), None, 10).of_model(ordinal=True)
    assert some.outputs == ("label",)
    alone = read_v2(_v2_body(outputs=[{"name": "score"}]), None, 10).of_model(ordinal=True)
    assert alone.outputs == ("score",)


def test_labels_without_order_have_no_score() -> None:
    asked = read_v2(_v2_body(outputs=[{"name": "score"}]), None, 10)
    with pytest.raises(BadRequest, match="labels of this model have no order"):
        asked.of_model(ordinal=False)
    plain = InferenceRequest(["a", "b"]).of_model(ordinal=False)
    assert plain.outputs == ("label", "confidence")
    assert "score" not in json.loads(v1_answer(plain, replace(MODEL, ordinal=False), ROWS))["predictions"][0]
    assert "score" not in json.dumps(document("m", "v", LABELS)["components"]["schemas"]["V1Answer"])
    assert "score" not in [output["name"] for output in output_types(3, ordinal=False)]
    assert output_types(3, ordinal=True)[-1] == {"name": "score", "datatype": "FP32", "shape": [-1]}


@pytest.mark.parametrize("name", ["V1Answer", "V2Answer"])
def test_answers_are_as_the_page_says(name: str) -> None:
    page = document("m", "v", LABELS, ordinal=True)
    answer = v1_answer(USUAL, MODEL, ROWS) if name == "V1Answer" else v2_answer(USUAL, MODEL, ROWS)[0]
    schema = {"$ref": f"#/components/schemas/{name}", "components": page["components"]}
    jsonschema.validate(json.loads(answer), schema)
    path = "/v1/models/m:predict" if name == "V1Answer" else "/v2/models/m/infer"
    example = page["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    jsonschema.validate(example, schema)
    wrong = json.loads(answer.replace(b'"score"', b'"sc0re"'))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)
