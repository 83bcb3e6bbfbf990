import shutil
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from components.data.dataset import Dataset, Split
from components.evaluation.evaluate import evaluate, finish_bundle
from components.evaluation.gate import gate
from components.evaluation.predictions import predict
from components.evaluation.reporting.card import model_card
from components.evaluation.scores import Evaluation
from components.evaluation.thresholds import Thresholds
from components.training.baseline import load_baseline, train_baseline
from predictor.model.bundle import Bundle, seal
from predictor.model.cascade import LinearStage
from predictor.model.classifier import Classifier
from tests.components.evaluation.evaluations import CHAMPION, GOOD, many


def test_what_is_known_of_a_class_is_measured_over_the_classes_that_have_rows(
    bundle: Path, dataset: Dataset, tmp_path: Path
) -> None:
    frame = dataset.test.frame
    test = Split(frame[frame["label"] != "World"].reset_index(drop=True))
    some = replace(dataset, test=test, report={**dataset.report, "rows_by_label": {
        "train": {"Business": 9, "Sports": 9, "World": 9}, "validation": {"Business": 9, "Sports": 9, "World": 0},
        "test": {"Business": 9, "Sports": 9, "World": 0}}})  # fmt: skip
    baseline = train_baseline(some, tmp_path / "baseline", 0, 1)
    result, _ = evaluate(bundle, some, *load_baseline(tmp_path / "baseline"))
    f1 = [row.f1 for row in result.score.classes if row.label != "World"]
    assert result.unknown == ["World"] and result.score.macro_f1 == pytest.approx(sum(f1) / 2)
    assert result.score.macro_f1 > 0.9 and baseline.test_accuracy > 0.9
    finish_bundle(bundle, result, some, tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "| World | | | | 0 |" in card and "The test has no rows of World: nothing is known" in card


def test_the_figures_survive_a_file(tmp_path: Path) -> None:
    whole = replace(GOOD, champion=CHAMPION)
    whole.save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json") == whole


@pytest.mark.parametrize("classes", [2, 50, 51, 1000])
def test_the_matrix_is_bounded_and_counts_every_row(classes: int) -> None:
    result = GOOD if classes == 2 else many(classes)
    labels, matrix = result.matrix()
    assert len(labels) == len(matrix) == min(50, classes) and {len(row) for row in matrix} == {len(labels)}
    assert sum(map(sum, matrix)) == sum(rows for _, _, rows in result.confusion)
    if classes > 50:
        assert matrix[labels.index(result.labels[3])][labels.index(result.labels[4])] == 2
    else:
        assert labels == result.labels


def test_the_figures_of_many_classes_take_as_much_room_as_there_are_pairs(tmp_path: Path) -> None:
    result = many(1000)
    result.save(tmp_path / "evaluation.json")
    assert (tmp_path / "evaluation.json").stat().st_size < 300_000
    assert Evaluation.load(tmp_path / "evaluation.json") == result


def test_the_test_is_answered_in_portions_whose_probabilities_are_bounded(
    bundle: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    whole = Classifier.probabilities

    def counted(self: Classifier, texts: Sequence[str], done: Callable[[int], None] | None = None) -> Any:
        asked.append(len(texts))
        return whole(self, texts, done)

    monkeypatch.setattr(Classifier, "probabilities", counted)
    classifier = Classifier(bundle)
    truth = np.array(dataset.test.label_ids(classifier.labels))
    found = []
    for most in (16_000_000, 3 * 25):
        monkeypatch.setattr("components.evaluation.predictions.PROBABILITIES", most)
        found.append(predict(classifier, dataset.test.texts, truth, classifier.labels, "test"))
    assert asked == [60, 25, 25, 10]
    assert all(np.array_equal(one, other) for one, other in zip(*map(astuple, found), strict=True))


def test_the_model_card_of_many_classes_names_some(bundle: Path) -> None:
    spec, result = Bundle.open(bundle).spec, many(1000)
    card = model_card(spec.model_copy(update={"labels": result.labels}), result.score.classes, {"train": 1})
    assert len(card) < 10_000 and "one of 1000 classes" in card and "950 more" in card
    assert card.index(f"| {result.labels[3]} |") < card.index(f"| {result.labels[999]} |")


def test_the_model_card_has_front_matter_that_hubs_read(bundle: Path) -> None:
    spec = Bundle.open(bundle).spec
    card = (bundle / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "text-classification"
    metric = front["model-index"][0]["results"][0]["metrics"][0]
    assert metric == {"type": "accuracy", "value": round(spec.metrics["test_accuracy"], 4)}
    assert f"sha256:{spec.data_digest}" in card
    assert all(f"| {label} |" in card for label in spec.labels)


def test_a_cascade_that_is_wrong_is_told_from_its_transformer(
    cascade_bundle: Path, dataset: Dataset, tmp_path: Path
) -> None:
    shutil.copytree(cascade_bundle, tmp_path / "bundle")
    spec = Bundle.open(cascade_bundle).spec
    assert spec.cascade
    stage = LinearStage.load(cascade_bundle, spec.cascade.unit, 3)
    weights, scales, bias = np.roll(stage.weights, 1, axis=1), np.roll(stage.scales, 1), np.roll(stage.bias, 1)
    LinearStage(weights, scales, bias, stage.unit).save(tmp_path / "bundle")
    seal(tmp_path / "bundle", spec)
    train_baseline(dataset, tmp_path / "baseline", 0, 1)
    result, _ = evaluate(tmp_path / "bundle", dataset, *load_baseline(tmp_path / "baseline"))
    assert result.cascade and result.cascade.transformer_accuracy > 0.9
    assert result.cascade.lost >= 0.8 * result.cascade.share * result.rows and result.cascade.won == 0
    assert result.score.accuracy == pytest.approx(
        result.cascade.transformer_accuracy - result.cascade.lost / result.rows
    )


def test_of_a_cascade_both_accuracies_are_shown(cascade_bundle: Path, dataset: Dataset, tmp_path: Path) -> None:
    train_baseline(dataset, tmp_path / "baseline", 0, 1)
    result, _ = evaluate(cascade_bundle, dataset, *load_baseline(tmp_path / "baseline"))
    alone = Classifier(cascade_bundle, cascade=False).probabilities(dataset.test.texts).argmax(axis=1)
    truth = np.array(dataset.test.label_ids(result.labels))
    assert result.cascade is not None
    assert result.cascade.transformer_accuracy == pytest.approx((alone == truth).mean())
    assert result.cascade.share == pytest.approx(0.5, abs=0.05)
    assert result.score.accuracy == pytest.approx(
        result.cascade.transformer_accuracy + (result.cascade.won - result.cascade.lost) / result.rows
    )
    result.save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json") == result
    assert any("linear model answers 5" in reason for reason in gate(result, Thresholds()).reasons)
    finished = finish_bundle(cascade_bundle, result, dataset, tmp_path / "out")
    assert finished.spec.metrics["test_cascade_share"] == result.cascade.share
    assert "share of texts that the linear model answers 5" in (tmp_path / "out/README.md").read_text()
    assert Classifier(tmp_path / "out").cascade is not None
