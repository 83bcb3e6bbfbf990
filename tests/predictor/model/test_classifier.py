import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from predictor.errors import InputError
from predictor.model.calibration import softmax
from predictor.model.classifier import Classifier, run_sorted
from predictor.model.engine import Logits, OnnxEngine, pad
from tests.conftest import BUSINESS, SPORTS

TEXTS = [f"{SPORTS} 1", f"{BUSINESS} 2", "treaty rebels vote " * 9, "army", "zzz"]


@pytest.mark.parametrize("precision", ["int8", "fp32", "torch"])
def test_every_precision_tells_the_classes_apart(bundle: Path, precision: Literal["int8", "fp32", "torch"]) -> None:
    answers = Classifier(bundle, precision).classify(TEXTS[:3])
    assert [answer.label for answer in answers] == ["Sports", "Business", "World"]


def test_fp32_is_the_same_function_as_plain_transformers(bundle: Path) -> None:
    from transformers import pipeline

    ours = Classifier(bundle, "fp32")
    theirs: Any = pipeline("text-classification", model=str(bundle), device="cpu", top_k=None)(TEXTS)
    temperature = ours.bundle.spec.temperature
    for row, scores in zip(ours.probabilities(TEXTS), theirs, strict=True):
        by_name = {score["label"]: score["score"] for score in scores}
        logits = np.log(np.array([[by_name[label] for label in ours.labels]], dtype=np.float32))
        np.testing.assert_allclose(row, softmax(logits, temperature)[0], atol=1e-4)


def test_answers_come_in_the_order_of_the_texts(bundle: Path) -> None:
    classifier = Classifier(bundle, "fp32")
    together = classifier.probabilities(TEXTS * 7)
    alone = np.concatenate([classifier.probabilities([text]) for text in TEXTS] * 7)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_confidence_is_the_probability_of_the_label(bundle: Path) -> None:
    classifier = Classifier(bundle)
    for answer in classifier.classify(TEXTS):
        assert answer.confidence == max(answer.probabilities)
        assert answer.label == classifier.labels[answer.probabilities.index(answer.confidence)]
        assert sum(answer.probabilities) == pytest.approx(1, abs=1e-5)


def test_without_pytorch_its_precision_is_refused_and_the_others_work(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="precision torch needs torch"):
        Classifier(bundle, "torch")
    assert Classifier(bundle, "int8").classify(TEXTS[:1])[0].label == "Sports"


def test_no_texts_no_answers(bundle: Path) -> None:
    assert Classifier(bundle).classify([]) == []


class LengthEngine:
    """Says of each text how many tokens it has, so that an answer on the wrong row shows."""

    lanes = 3
    about = ""

    def __call__(self, ids: Sequence[Sequence[int]]) -> Logits:
        return np.array([[len(row), sum(row)] for row in ids], dtype=np.float32)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=40), min_size=1, max_size=60))
def test_sorting_and_batching_never_swap_rows(ids: list[list[int]]) -> None:
    seen: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        logits = run_sorted(LengthEngine(), ids, pool, seen.append)
    assert logits.tolist() == [[len(row), sum(row)] for row in ids]
    assert seen[-1] == len(ids)


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=20), min_size=1, max_size=9))
def test_padding_is_masked(ids: list[list[int]]) -> None:
    tokens, mask = pad(ids, pad_token_id=0)
    assert mask.sum(axis=1).tolist() == [len(row) for row in ids]
    assert [row[on.astype(bool)].tolist() for row, on in zip(tokens, mask, strict=True)] == ids


def test_softmax_takes_large_logits() -> None:
    rows = softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]], dtype=np.float32), 0.5)
    assert rows.tolist() == [[1, 0], [0.5, 0.5]]


def test_int8_sums_are_not_clipped_on_any_cpu(tmp_path: Path) -> None:
    """Products of the largest numbers: without VNNI the usual kernel adds two of them up in 16 bits."""
    width, outputs = 64, 3
    weight = np.array([[127, -128, 127]] * width, dtype=np.int8)
    weight[::2, 2] = -128
    constants = {
        "weight": weight, "one": np.float32(1), "scales": np.ones(outputs, dtype=np.float32),
        "zero": np.uint8(0), "zeros": np.zeros(outputs, dtype=np.int8),
    }  # fmt: skip
    product = ["uint8", "weight", "one", "scales", "zero", "zeros"]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["uint8"], to=TensorProto.UINT8),
        helper.make_node("MatMulIntegerToFloat", product, ["logits"], domain="com.microsoft"),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    graph = helper.make_graph(
        nodes, "sums", inputs, [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", outputs])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "sums.onnx")
    rows = [[255] * width, [255, 0] * (width // 2), list(range(width))]
    logits = OnnxEngine(tmp_path / "sums.onnx", 0, 1)(rows)
    assert logits.tolist() == (np.array(rows) @ weight.astype(np.int64)).tolist()


def test_one_batch_has_the_same_answers_as_many(bundle: Path) -> None:
    classifier = Classifier(bundle)
    np.testing.assert_allclose(
        classifier.run(classifier.encoder(TEXTS)), classifier.probabilities(TEXTS), rtol=0, atol=1e-6
    )
