"""Multi-label models: what they learn from, how they are calibrated, their thresholds, and the bundle."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from components.data.dataset import Dataset
from components.training.baseline import load_baseline, train_baseline
from components.training.export.multi_label import (
    LEAST_ROWS,
    compare_sets,
    fit_sigmoid_temperature,
    fit_thresholds,
)
from components.training.few_shot.head import embed, fit_head, head_loss
from components.training.fine_tuning.loss import LossFunction
from components.training.fine_tuning.model import load_classifier, output_layer, score
from components.training.fine_tuning.precision import TrainingPrecision
from components.training.recipe import HISTORY_FILE, Recipe, choose_method
from predictor.errors import InputError
from predictor.model.bundle import MULTI, Bundle, ServingSpec, seal
from predictor.model.calibration import decided, least_sure, sigmoid
from predictor.model.classifier import Classifier
from predictor.model.text import Encoder
from tests.multi_label import LABELS

FP32 = TrainingPrecision("fp32", torch.device("cpu"), "the test", lambda: torch.autocast("cpu", enabled=False))


def _shares(rows: int, labels: int) -> st.SearchStrategy[NDArray[np.float32]]:
    return arrays(np.float32, (rows, labels), elements=st.floats(0, 1, width=32))


def test_the_loss_is_that_of_torch_and_adds_up_over_shards() -> None:
    torch.manual_seed(0)
    targets, logits = (torch.rand(8, 3) > 0.5).float(), torch.randn(8, 3)
    batch = list(range(8))
    loss = LossFunction(targets, 3, Recipe(epochs=1), torch.device("cpu"))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(loss(logits, batch, batch), expected)
    parts = loss(logits[:3], batch[:3], batch) + loss(logits[3:], batch[3:], batch)
    torch.testing.assert_close(parts, expected)
    smooth = LossFunction(targets, 3, Recipe(epochs=1, label_smoothing=0.1), torch.device("cpu"))
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets * 0.9 + 0.05)
    torch.testing.assert_close(smooth(logits, batch, batch), wanted)


def test_a_score_has_the_parts_of_micro_f1(backbone: Path, sets_dataset: Dataset) -> None:
    classifier = load_classifier(backbone, LABELS, multi_label=True)
    torch.nn.init.zeros_(output_layer(classifier).weight)
    output_layer(classifier).bias.data = torch.tensor([3.0, -3.0, 3.0])
    ids, has = Encoder(backbone, 64)(sets_dataset.test.texts), sets_dataset.test.label_matrix(LABELS)
    loss, right, whole, answers = score(classifier, ids, has, 0, FP32)
    found = np.tile([True, False, True], (len(ids), 1))
    assert right / whole == pytest.approx(f1_score(has, found, average="micro"))
    assert answers == [len(ids), 0, len(ids)]
    vectors = embed(classifier, ids, 0, FP32)
    assert head_loss(classifier, vectors, has) == pytest.approx(loss / len(ids), rel=1e-5)
    parts = [score(classifier, ids, has, 0, FP32, (part, 2)) for part in range(2)]
    assert sum(part[1] for part in parts) == right and sum(part[2] for part in parts) == whole


def test_the_method_counts_labels_and_is_never_contrastive() -> None:
    assert choose_method(["a|b", "b"] * 20, {}, multi_label=True)[0] == "frozen"
    assert choose_method(["a|b", "b"] * 200, {}, multi_label=True)[0] == "full"
    assert choose_method(["a|b", ""] * 8, {}, multi_label=True) == (
        "frozen", "a head on frozen embeddings, since 8 labels a class are fewer than 100"
    )  # fmt: skip


def test_fine_tuning_learns_each_label_and_the_config_says_what_it_is(
    sets_checkpoint: Path, sets_dataset: Dataset
) -> None:
    history = json.loads((sets_checkpoint / HISTORY_FILE).read_text())["history"]
    assert max(row["validation_accuracy"] for row in history) > 0.85
    assert json.loads((sets_checkpoint / "config.json").read_text())["problem_type"] == MULTI


def test_a_head_on_frozen_embeddings_learns_each_label(backbone: Path, sets_dataset: Dataset, tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, method="frozen", max_length=64)
    (done,) = fit_head(
        backbone, sets_dataset.train, sets_dataset.validation, LABELS, recipe, tmp_path, 1, multi_label=True
    )
    assert done.validation_accuracy > 0.72  # micro F1; every label everywhere has 0.67


def test_the_baseline_has_a_machine_for_each_label(sets_dataset: Dataset, tmp_path: Path) -> None:
    train_baseline(sets_dataset, tmp_path, 0, 1)
    result, answers = load_baseline(tmp_path)
    assert result.test_accuracy > 0.6 and set(answers.values()) <= set(sets_dataset.train.labels)
    assert "Business|Sports" in answers.values() and "" in answers.values()


def test_the_temperature_undoes_a_scale_and_stays_finite_where_all_is_right() -> None:
    random = np.random.default_rng(0)
    true = random.normal(size=(4000, 4)) * 2
    has = random.random(true.shape) < 1 / (1 + np.exp(-true))
    assert fit_sigmoid_temperature((3 * true).astype(np.float32), has) == pytest.approx(3, rel=0.1)
    sure = np.where(has[:20], 1.0, -1.0).astype(np.float32)
    assert 0.01 < fit_sigmoid_temperature(sure, has[:20]) < 1


@given(_shares(40, 2), arrays(np.bool_, (40, 2)))
def test_no_other_threshold_has_a_higher_f1(rows: NDArray[np.float32], has: NDArray[np.bool_]) -> None:
    found = fit_thresholds(rows, has, ["a", "b"])
    for label in range(2):
        few = min(has[:, label].sum(), (~has[:, label]).sum()) < LEAST_ROWS
        assert (["a", "b"][label] in found.usual) == few
        if few:
            assert found.values[label] == 0.5
            continue

        def f1(threshold: float, label: int = label) -> float:
            return float(f1_score(has[:, label], rows[:, label] >= np.float32(threshold), zero_division=0.0))

        best = f1(float(found.values[label]))
        assert all(f1(float(other)) <= best + 1e-9 for other in np.unique(rows[:, label]))


def test_labels_with_few_rows_have_the_usual_threshold_and_it_is_said() -> None:
    has = np.zeros((30, 2), dtype=bool)
    has[:15, 0] = has[:3, 1] = True
    found = fit_thresholds(np.where(has, 0.3, 0.1).astype(np.float32), has, ["often", "rarely"])
    assert found.values[0] == pytest.approx(0.2) and found.values[1] == 0.5
    assert "0.5 for rarely" in found.sentence and f"fewer than {LEAST_ROWS}" in found.sentence


def test_a_threshold_does_not_part_rows_of_one_probability() -> None:
    scores = np.array([[0.6]] * 24 + [[0.2]] * 3, dtype=np.float32)
    has = np.array([[row < 12 or row >= 24] for row in range(27)])
    # After the first twelve rows F1 would be highest, but the next twelve have the same probability.
    assert fit_thresholds(scores, has, ["a"]).values[0] == pytest.approx(0.1)


def test_int8_that_changes_labels_is_seen_to_lose() -> None:
    random = np.random.default_rng(1)
    has = random.random((600, 3)) < 0.4
    fp32 = np.where(has, 2.0, -2.0).astype(np.float32)
    worse = np.where(random.random(has.shape) < 0.1, -fp32, fp32)
    seen = compare_sets(fp32, worse, has[:300], 1.0)
    assert seen.fp32 == 1.0 and 0.6 < seen.int8 < 0.85 and seen.low > 0.1 and seen.expected_low > 0.05
    same = compare_sets(fp32, fp32, has[:300], 1.0)
    assert same.agreement == 1.0 and same.expected == 0.0 and same.largest_shift == 0.0


def test_the_bundle_has_what_a_server_needs(sets_draft: Path, sets_dataset: Dataset) -> None:
    raw = json.loads((sets_draft / "serving.json").read_text())
    assert raw["problem_type"] == MULTI and set(raw["thresholds"]) == set(LABELS)
    assert all(0 < threshold < 1 for threshold in raw["thresholds"].values())
    spec = Bundle.open(sets_draft).spec
    assert spec.cascade is None and "may have several" in spec.cascade_reason and spec.conformal is None
    has = sets_dataset.validation.label_matrix(LABELS)
    assert spec.metrics["calibration_error_after"] < 0.15
    shares = np.array([spec.reference.class_shares[label] for label in LABELS])
    assert np.abs(shares - has.mean(axis=0)).max() < 0.15
    assert sum(spec.reference.confidence_histogram) == len(has)


def test_a_bundle_of_single_labels_says_nothing_of_it(bundle: Path, tmp_path: Path) -> None:
    raw = json.loads((bundle / "serving.json").read_text())
    assert "problem_type" not in raw and "thresholds" not in raw
    assert Bundle.open(bundle).spec.least is None
    with pytest.raises(ValueError, match="thresholds are of each label"):
        ServingSpec.model_validate({**raw, "thresholds": {"World": 0.5}})


def test_a_bundle_without_a_label_s_threshold_is_refused(sets_draft: Path, tmp_path: Path) -> None:
    shutil.copytree(sets_draft, tmp_path / "copy")
    spec = Bundle.open(tmp_path / "copy").spec
    seal(tmp_path / "copy", spec.model_copy(update={"thresholds": {"World": 0.5}}))
    with pytest.raises(InputError, match="cannot be read"):
        Bundle.open(tmp_path / "copy")


def test_the_classifier_answers_with_sets_the_same_alone_and_in_company(
    sets_draft: Path, sets_dataset: Dataset
) -> None:
    classifier = Classifier(sets_draft)
    texts = sets_dataset.test.texts[:40]
    rows = classifier.probabilities(texts)
    answers = classifier.classify(texts)
    least = classifier.thresholds
    assert least is not None
    assert [answer.probabilities for answer in answers] == [tuple(map(float, row)) for row in rows]
    for text, row, answer in zip(texts, rows, answers, strict=True):
        assert answer == classifier.classify([text])[0]
        assert answer.label == "|".join(np.array(LABELS)[row >= least])
    right = np.mean([answer.label == label for answer, label in zip(answers, sets_dataset.test.labels, strict=False)])
    assert right > 0.6
    classifier.close()


def test_a_text_has_a_label_from_its_threshold_on() -> None:
    thresholds = np.array([0.3, 0.7], dtype=np.float32)
    under = np.nextafter(thresholds, np.float32(0))
    assert decided(np.stack([thresholds, under]), thresholds).tolist() == [[True, True], [False, False]]


@given(_shares(6, 4), arrays(np.float32, 4, elements=st.floats(0, 1, width=32)))
def test_a_text_is_as_sure_as_its_least_sure_label(rows: NDArray[np.float32], thresholds: NDArray[np.float32]) -> None:
    has, sure = decided(rows, thresholds), least_sure(rows, thresholds)
    for row, mine, found in zip(rows, has, sure, strict=True):
        assert found == min(p if yes else np.float32(1) - p for p, yes in zip(row, mine, strict=True))


@given(arrays(np.float32, (3, 2), elements=st.floats(-1e6, 1e6, width=32)), st.floats(0.001, 1000))
def test_a_sigmoid_is_a_share_and_grows_with_the_logit(logits: NDArray[np.float32], temperature: float) -> None:
    rows = sigmoid(logits, temperature)
    assert rows.dtype == np.float32 and ((rows >= 0) & (rows <= 1)).all()
    order = np.argsort(logits, axis=0, kind="stable")
    assert (np.diff(np.take_along_axis(rows, order, axis=0), axis=0) >= 0).all()
    assert all((sigmoid(logits[row : row + 1], temperature) == rows[row]).all() for row in range(3))
