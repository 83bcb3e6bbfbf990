import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from components.data.dataset import Dataset
from components.training.export import export as module
from components.training.export.calibration import fit_temperature
from components.training.export.export import export
from components.training.export.reliability import calibration_error, reliability
from predictor.model.bundle import Bundle
from predictor.model.calibration import softmax
from predictor.model.classifier import Classifier
from tests.conftest import NAMES, ROOT


@pytest.mark.parametrize("name", ["model.onnx", "model_int8.onnx"])
def test_a_bundle_does_not_tell_where_it_was_made(bundle: Path, name: str) -> None:
    content = (bundle / "onnx" / name).read_bytes()
    assert b"site-packages" not in content and str(ROOT).encode() not in content and b".py" not in content


def test_the_bundle_says_how_its_precisions_did(bundle: Path) -> None:
    metrics = Bundle.open(bundle).spec.metrics
    assert metrics["agreement_torch_fp32"] == 1.0
    assert metrics["agreement_fp32_int8"] >= 0.9
    assert metrics["validation_accuracy_fp32"] >= 0.9


def test_the_bundle_keeps_what_its_answers_are_called(bundle: Path) -> None:
    assert Bundle.open(bundle).spec.answer == NAMES


def test_int8_multiplies_integers_and_is_smaller(bundle: Path) -> None:
    import onnx

    operators = {node.op_type for node in onnx.load(bundle / "onnx/model_int8.onnx").graph.node}
    assert "MatMulIntegerToFloat" in operators
    assert (bundle / "onnx/model_int8.onnx").stat().st_size < (bundle / "onnx/model.onnx").stat().st_size


def test_the_graph_reads_the_mask(bundle: Path) -> None:
    session = onnxruntime.InferenceSession(str(bundle / "onnx/model.onnx"), providers=["CPUExecutionProvider"])
    tokens = np.array([[2, 7, 8, 3]])
    padded = np.array([[2, 7, 8, 3, 0, 0, 0]])
    alone = session.run(None, {"input_ids": tokens, "attention_mask": np.ones_like(tokens)})[0]
    masked = session.run(None, {"input_ids": padded, "attention_mask": (padded != 0).astype(np.int64)})[0]
    np.testing.assert_allclose(alone, masked, atol=1e-5)


def test_int8_is_compared_on_rows_of_training_too_where_there_are_few(bundle: Path, dataset: Dataset) -> None:
    spec = Bundle.open(bundle).spec
    calibrated = min(module.CALIBRATION_ROWS, len(dataset.train))
    more = len(dataset.train) - calibrated or calibrated
    assert spec.metrics["compared_rows"] == min(1_000, len(dataset.validation) + more) > spec.metrics["validation_rows"]
    assert f"{spec.metrics['compared_rows']:,.0f} rows" in spec.precision_reason


@pytest.mark.parametrize(("compared", "rows"), [(10, 0), (60, 21), (39, 0), (139, 100)])
def test_no_row_of_calibration_is_compared_while_others_are_left(
    dataset: Dataset, compared: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated = list(range(0, len(dataset.train), 3))
    texts = module._more_rows(dataset, calibrated, max(0, compared - len(dataset.validation)))
    assert len(texts) == len(set(texts)) == rows
    assert not set(texts) & {dataset.train.texts[row] for row in calibrated}


def test_where_all_rows_set_the_ranges_they_are_compared(dataset: Dataset) -> None:
    every = list(range(len(dataset.train)))
    assert module._more_rows(dataset, every, 10_000) == dataset.train.texts


@pytest.mark.slow(reason="exports a model twice")
def test_a_graph_that_disagrees_with_the_model_is_not_shipped(
    checkpoint: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(source: Path, file: Path) -> None:
        other = tmp_path / "other"
        shutil.copytree(source, other, ignore=shutil.ignore_patterns("onnx"))
        from transformers import AutoModelForSequenceClassification

        model = AutoModelForSequenceClassification.from_pretrained(other)
        model.classifier.weight.data.neg_()
        model.save_pretrained(other)
        original(other, file)

    original = module.to_onnx
    monkeypatch.setattr(module, "to_onnx", broken)
    with pytest.raises(RuntimeError, match="the export is broken"):
        export(checkpoint, dataset, dataset.train, 0.5, "toy", tmp_path / "out")
    assert not (tmp_path / "out/serving.json").exists()


def test_how_much_faster_int8_is_is_the_median_of_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module, "perf_counter", lambda: now)

    def engine(seconds: list[float]) -> Any:
        def run(ids: list[list[int]]) -> None:
            nonlocal now
            now += seconds.pop()

        return run

    # In one round int8 was interrupted, in one fp32.
    engines: Any = {"int8": engine([2, 2, 90, 2, 2]), "fp32": engine([6, 6, 6, 6, 90])}
    assert module.int8_over_fp32(engines, [[1]]) == 3


def test_temperature_repairs_confidence_that_is_off_by_a_known_factor() -> None:
    random = np.random.default_rng(0)
    honest = random.normal(size=(20_000, 4)).astype(np.float32) * 2
    rows = softmax(honest, 1.0)
    truth = np.array([random.choice(4, p=row / row.sum()) for row in rows.astype(np.float64)])
    assert fit_temperature(honest * 3, truth) == pytest.approx(3, rel=0.05)
    right = honest.argmax(axis=1) == truth
    after, before = (calibration_error(reliability(softmax(honest * 3, by).max(axis=1), right)) for by in (3.0, 1.0))
    assert after < 0.02 < before


@pytest.mark.parametrize("factor", [0.01, 0.1, 30.0])
def test_a_temperature_far_from_one_is_found(factor: float) -> None:
    random = np.random.default_rng(1)
    honest = random.normal(size=(4_000, 4)) * 2
    truth = (honest + random.gumbel(size=honest.shape)).argmax(axis=1)
    assert fit_temperature((honest * factor).astype(np.float32), truth) == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize("rows", [10, 100])
def test_a_model_that_has_few_rows_all_right_is_not_sure_without_end(rows: int) -> None:
    logits = np.zeros((rows, 3), dtype=np.float32)
    logits[:, 1] = 0.05  # as flat as those of a head that few rows were fitted to
    row = softmax(logits, fit_temperature(logits, np.ones(rows, dtype=np.int64)))[0]
    assert row[1] == pytest.approx((rows + 1) / (rows + 2), abs=1e-3)


def test_a_class_without_rows_does_not_move_the_temperature() -> None:
    random = np.random.default_rng(2)
    honest = random.normal(size=(500, 3)).astype(np.float32) * 2
    truth = (honest + random.gumbel(size=honest.shape)).argmax(axis=1)
    never = np.concatenate([honest, np.full((500, 1), -np.inf, dtype=np.float32)], axis=1)
    assert fit_temperature(never, truth) == fit_temperature(honest, truth)


def test_what_was_scored_is_what_answers(bundle: Path, dataset: Dataset) -> None:
    classifier = Classifier(bundle)
    truth = dataset.test.labels
    right = [a.label == label for a, label in zip(classifier.classify(dataset.test.texts), truth, strict=True)]
    assert Bundle.open(bundle).spec.metrics["test_accuracy"] == pytest.approx(np.mean(right))
