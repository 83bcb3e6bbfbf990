"""Answers with any number of labels: the same over every protocol, as the page describes them, and in the log."""

import csv
import io
import json

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jsonschema import Draft202012Validator
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from predictor.errors import BadRequest
from predictor.model.calibration import decided, least_sure
from predictor.naming import AnswerNames
from predictor.records import Prediction, prediction_of
from predictor.serving.jobs.status import RowResult
from predictor.serving.metrics import Metrics
from predictor.serving.prediction_log.parts import Answer, Source, Trace, lines_of
from predictor.serving.prediction_log.redaction import Redaction
from predictor.serving.wire.feedback import read_feedback
from predictor.serving.wire.openapi import document
from predictor.serving.wire.outputs import output_types
from predictor.serving.wire.requests import InferenceRequest, read_v1, read_v2
from predictor.serving.wire.responses import Model, grpc_answer, v1_answer, v2_answer
from predictor.serving.wire.rest import Writer
from predictor.serving.wire.tables import page

LABELS = ["bad", "late", "rude"]
LEAST = np.array([0.5, 0.25, 0.75], dtype=np.float32)
MODEL = Model("m", "v", LABELS, thresholds=LEAST)
NAMES = AnswerNames(verb="tag", field="tags")
ROWS = np.array([[0.9, 0.3, 0.7], [0.1, 0.2, 0.3], [0.6, 0.7, 0.8]], dtype=np.float32)
PAGE = document("m", "v", LABELS, names=NAMES, multi_label=True)


def _faults(body: object, schema: str) -> list[object]:
    whole = {"$ref": f"#/components/schemas/{schema}", "components": PAGE["components"]}
    return list(Draft202012Validator(whole).iter_errors(body))


def _request(texts: int, **more: object) -> InferenceRequest:
    return InferenceRequest(["a"] * texts, **more).of_model(ordinal=False, multi_label=True)  # type: ignore[arg-type]


def test_v1_has_the_labels_the_most_probable_first_and_the_confidence_in_each() -> None:
    body = json.loads(v1_answer(_request(3), MODEL, ROWS))
    assert [prediction["labels"] for prediction in body["predictions"]] == [
        ["bad", "late"], [], ["rude", "late", "bad"]
    ]  # fmt: skip
    assert [list(prediction["confidences"]) for prediction in body["predictions"]] == [LABELS] * 3
    assert body["predictions"][0]["confidence"] == pytest.approx(0.3)
    assert body["predictions"][1]["confidence"] == pytest.approx(0.7)
    assert not _faults(body, "V1Answer")
    best = json.loads(v1_answer(_request(1, top_k=2), MODEL, ROWS[:1]))
    assert [each["label"] for each in best["predictions"][0]["top_k"]] == ["bad", "rude"]
    assert not _faults(best, "V1Answer")


@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(0, 1, width=32)))
def test_every_protocol_says_the_same_bit_for_bit(rows: NDArray[np.float32]) -> None:
    request = _request(len(rows))
    v1 = json.loads(v1_answer(request, MODEL, rows))["predictions"]
    v2 = json.loads(v2_answer(request, MODEL, rows)[0])
    outputs = {output["name"]: output for output in v2["outputs"]}
    has, sure = decided(rows, LEAST), least_sure(rows, LEAST).tolist()
    expected = ["|".join(np.array(LABELS)[mine]) for mine in has]
    assert outputs["labels"]["data"] == expected and outputs["labels"]["shape"] == [len(rows)]
    assert outputs["probabilities"]["data"] == rows.ravel().tolist() and outputs["probabilities"]["shape"][1] == 3
    assert outputs["confidence"]["data"] == sure == [prediction["confidence"] for prediction in v1]
    assert [list(prediction["confidences"].values()) for prediction in v1] == rows.tolist()
    ours = ["|".join(label for label in LABELS if label in prediction["labels"]) for prediction in v1]
    assert ours == expected
    grpc = grpc_answer(request, MODEL, rows)
    tensors = {output.name: output for output in grpc.outputs}
    assert [text.decode() for text in tensors["labels"].contents.bytes_contents] == expected
    assert list(tensors["probabilities"].contents.fp32_contents) == rows.ravel().tolist()
    assert list(tensors["confidence"].contents.fp32_contents) == sure
    rest = Writer(NAMES, MODEL).answers(rows)
    assert [answer["tags"] for answer in rest] == [prediction["labels"] for prediction in v1]
    assert [answer["confidence"] for answer in rest] == [prediction["confidences"] for prediction in v1]
    assert not _faults(v2, "V2Answer")
    binary, length = v2_answer(_request(len(rows), binary=frozenset(["label"])), MODEL, rows)
    assert length is not None and binary.endswith(rows.astype("<f4").tobytes())
    for row in range(len(rows)):  # alone as in company
        assert json.loads(v1_answer(_request(1), MODEL, rows[row : row + 1]))["predictions"] == [v1[row]]


def test_a_caller_may_choose_outputs_that_there_are() -> None:
    body = json.dumps(
        {
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}],
            "outputs": [{"name": "labels"}, {"name": "top_labels"}],
        }
    ).encode()
    request = read_v2(body, None, 10).of_model(ordinal=False, multi_label=True)
    answer = json.loads(v2_answer(request, MODEL, ROWS[:1])[0])
    assert {output["name"] for output in answer["outputs"]} == {"labels", "top_labels"}
    assert [kind["name"] for kind in output_types(3, False, True)] == [
        "labels", "confidence", "probabilities", "top_labels", "top_confidences"
    ]  # fmt: skip
    with pytest.raises(BadRequest, match="a text has one label here"):
        read_v2(body, None, 10).of_model(ordinal=False)


@pytest.mark.parametrize("name", ["label", "score"])
def test_outputs_of_other_models_are_refused(name: str) -> None:
    request = InferenceRequest(["a"], outputs=(name,), chosen=True)
    with pytest.raises(BadRequest, match="one label a text"):
        request.of_model(ordinal=False, multi_label=True)


def test_coverage_is_refused_in_one_sentence() -> None:
    body = orjson.dumps({"instances": ["a"], "parameters": {"coverage": 0.9}})
    with pytest.raises(BadRequest, match="coverage is asked for, but texts of this model may have several labels"):
        read_v1(body, 10).of_model(ordinal=False, multi_label=True)


def test_the_answer_s_values_are_counted() -> None:
    assert _request(2).values(1000) == 2 * 1002


def test_plain_rest_has_a_list_and_a_map_and_tables_have_them_as_text() -> None:
    writer = Writer(NAMES, MODEL)
    one = json.loads(writer.one(InferenceRequest(["a"], "42"), ROWS[:1], 0.1))
    assert one["tags"] == ["bad", "late"] and one["confidence"]["rude"] == pytest.approx(0.7)
    assert not _faults(one, "RestAnswer")
    results = [RowResult(ROWS[0], version="v"), RowResult(None, "empty"), RowResult(ROWS[1], version="v")]
    lines = [json.loads(line) for line in page(writer, 0, results, "jsonl").splitlines()]
    assert lines[0]["tags"] == ["bad", "late"] and lines[2]["tags"] == [] and not _faults(lines[0], "RestRow")
    rows = list(csv.DictReader(io.StringIO(page(writer, 0, results, "csv").decode())))
    assert [row["tags"] for row in rows] == ["bad|late", "", ""]
    assert json.loads(rows[0]["confidence"]) == dict(zip(LABELS, ROWS[0].tolist(), strict=True))


def test_feedback_is_a_list_of_labels_and_kept_in_order() -> None:
    def read(*items: object) -> list[str]:
        found = read_feedback(orjson.dumps({"feedback": list(items)}), LABELS, multi_label=True)
        return [record.label for record in found]

    assert read({"id": "1", "labels": ["rude", "bad", "rude"]}, {"id": "2", "labels": []}) == ["bad|rude", ""]
    assert not _faults({"feedback": [{"id": "1", "labels": []}]}, "Labelled")
    wrong = {
        "has the label 'kind'": {"id": "1", "labels": ["kind"]},
        "no list 'labels'": {"id": "1", "labels": "bad"},
        "a field 'label'": {"id": "1", "label": "bad"},
    }
    for message, item in wrong.items():
        with pytest.raises(BadRequest, match=message):
            read(item)
    many = [{"id": str(number), "labels": LABELS} for number in range(1000)]
    assert read(*many) == ["bad|late|rude"] * 1000


def test_the_log_has_all_labels_of_a_text() -> None:
    def logged(rows: NDArray[np.float32], source: Source) -> list[Prediction]:
        lines = lines_of(Answer("1", 0.0, ["a"] * len(rows), rows, Trace.of(len(rows))), source)
        return [prediction_of(orjson.loads(line)) for line in lines.splitlines()]

    records = logged(ROWS, Source("r", "ab" * 32, LABELS, Redaction.NONE, LEAST))
    assert [record.label for record in records] == ["bad|late", "", "bad|late|rude"]
    assert [record.confidence for record in records] == least_sure(ROWS, LEAST).tolist()
    assert records[0].probabilities == dict(zip(LABELS, ROWS[0].tolist(), strict=True))
    wide = np.zeros((1, 200), dtype=np.float32)
    wide[0, 7] = 0.9
    many = Source("r", "ab" * 32, [f"l{n}" for n in range(200)], Redaction.NONE, np.full(200, 0.5, np.float32))
    (record,) = logged(wide, many)
    assert (record.label, record.confidence, record.probabilities) == ("l7", float(wide[0, 7]), None)


def test_a_text_counts_for_each_label_and_once_in_the_confidence() -> None:
    registry = CollectorRegistry()
    metrics = Metrics("m", "r", LABELS, [8], registry, threshold=0.5, least=LEAST)
    metrics.answered(ROWS)
    who = {"model_name": "m", "revision": "r"}
    found = [registry.get_sample_value("text_classifier_predictions_total", {**who, "category": n}) for n in LABELS]
    assert found == [2, 2, 1]
    assert registry.get_sample_value("text_classifier_confidence_ratio_count", who) == 3
    assert registry.get_sample_value("text_classifier_low_confidence_total", who) == 1


def test_the_pages_examples_are_of_its_shapes() -> None:
    paths = PAGE["paths"]
    assert "/v1/models/m:explain" not in paths
    for path in ("/v1/models/m:predict", "/v2/models/m/infer", "/v1/tag", "/v1/tag/batch", "/v1/models/m:feedback"):
        post = paths[path]["post"]
        for content in (post["requestBody"], post["responses"]["200"]):
            part = content["content"]["application/json"]
            assert not _faults(part["example"], part["schema"]["$ref"].rpartition("/")[2]), path
