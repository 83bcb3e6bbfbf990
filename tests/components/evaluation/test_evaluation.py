import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from components.data.dataset import Dataset, Split
from components.evaluation.card import model_card
from components.evaluation.evaluate import evaluate, finish_bundle
from components.evaluation.gate import gate
from components.evaluation.report import render_report
from components.evaluation.scores import ClassScore, Evaluation, Mistake
from components.training.baseline import Baseline, load_baseline, train_baseline
from components.training.recipe import Epoch
from predictor.model.bundle import Bundle, seal
from predictor.model.cascade import LinearStage
from predictor.model.classifier import Classifier

GOOD = Evaluation(
    task="toy",
    rows=1000,
    accuracy=0.95,
    accuracy_low=0.93,
    accuracy_high=0.96,
    macro_f1=0.95,
    calibration_error=0.01,
    baseline_accuracy=0.94,
    only_model_right=30,
    only_baseline_right=20,
    precision="int8",
    precision_reason="int8 loses nothing",
    texts_per_second=300.0,
    labels=["a", "<b>"],
    classes=[ClassScore("a", 0.95, 0.95, 0.95, 500), ClassScore("<b>", 0.95, 0.95, 0.95, 500)],
    confusion=[(0, 0, 475), (0, 1, 25), (1, 0, 25), (1, 1, 475)],
    mistakes=[Mistake("<script>alert(1)</script>", "a", "<b>", 0.99)],
)


def test_a_good_model_passes() -> None:
    verdict = gate(GOOD, 0.9)
    assert verdict.passed is True and len(verdict.reasons) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"accuracy": 0.8999}, "below 90.00%"),
        ({"only_model_right": 20, "only_baseline_right": 60}, "is significantly better"),
        ({"confusion": [(0, 0, 500), (1, 0, 500)]}, "never answered: <b>"),
    ],
)
def test_each_check_can_close_the_gate(change: dict[str, object], reason: str) -> None:
    verdict = gate(replace(GOOD, **change), 0.9)  # type: ignore[arg-type]
    assert not verdict.passed
    assert any(reason in said for said in verdict.reasons)


UNTESTED = replace(
    GOOD,
    labels=["a", "<b>", "c"],
    classes=[*GOOD.classes, ClassScore("c", 0.0, 0.0, 0.0, 0)],
)


def test_a_class_without_test_rows_does_not_close_the_gate_but_is_named() -> None:
    verdict = gate(UNTESTED, 0.9)
    assert verdict.passed and verdict.reasons[-1] == "without test rows, so that nothing is known of it: c"
    mute = replace(UNTESTED, confusion=[(0, 0, 500), (1, 0, 500)])
    assert not gate(mute, 0.9).passed and "never answered: <b>" in gate(mute, 0.9).reasons


def test_what_is_known_of_a_class_is_measured_over_the_classes_that_have_rows(
    bundle: Path, checkpoint: Path, dataset: Dataset, tmp_path: Path
) -> None:
    frame = dataset.test.frame
    test = Split(frame[frame["label"] != "World"].reset_index(drop=True))
    some = replace(dataset, test=test, report={**dataset.report, "rows_by_label": {
        "train": {"Business": 9, "Sports": 9, "World": 9}, "validation": {"Business": 9, "Sports": 9, "World": 0},
        "test": {"Business": 9, "Sports": 9, "World": 0}}})  # fmt: skip
    baseline = train_baseline(some, tmp_path / "baseline", 0, 1)
    result = evaluate(bundle, some, *load_baseline(tmp_path / "baseline"))
    f1 = [row.f1 for row in result.classes if row.label != "World"]
    assert result.unknown == ["World"] and result.macro_f1 == pytest.approx(sum(f1) / 2)
    assert result.macro_f1 > 0.9 and gate(result, 0.9).passed and baseline.test_accuracy > 0.9
    finish_bundle(bundle, result, some, tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "| World | | | | 0 |" in card and "The test has no rows of World: nothing is known" in card
    training = json.loads((checkpoint / "training.json").read_text())
    page = render_report(result, gate(result, 0.9), training, some.report)
    assert "no test rows: nothing is known" in page and "macro F1 of 2 classes" in page
    assert "no validation rows of World: nothing is known" in page


def test_a_baseline_that_is_better_by_chance_does_not_close_it() -> None:
    assert gate(replace(GOOD, only_model_right=28, only_baseline_right=32), 0.9).passed
    assert gate(replace(GOOD, only_model_right=0, only_baseline_right=0), 0.9).passed


def test_the_figures_survive_a_file(tmp_path: Path) -> None:
    GOOD.save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json") == GOOD


class _Balanced(HTMLParser):
    VOID = frozenset({"meta", "br", "link", "img", "line", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_report_shows_the_figures_and_escapes_texts(dataset: Dataset, checkpoint: Path) -> None:
    training = json.loads((checkpoint / "training.json").read_text())
    data = {**dataset.report, "rows_by_label": {s: {"a": 1, "<b>": 2} for s in ("train", "validation", "test")}}
    page = render_report(GOOD, gate(GOOD, 0.9), training, data)
    parser = _Balanced()
    parser.feed(page)
    assert not parser.open
    assert "Gate passed" in page and "95.00%" in page and dataset.digest in page
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=", page)


def many(classes: int) -> Evaluation:
    """A test of four rows a class: class 3 is taken for its neighbour twice, each other one once in a while."""
    random = np.random.default_rng(0)
    labels = [f"class number {number} of a long taxonomy" for number in range(classes)]
    wrong = {number: int(random.integers(classes)) for number in range(0, classes, 2) if number != 3}
    confusion = [(number, number, 3 if number in wrong else 4) for number in range(classes) if number != 3]
    confusion += [(number, answer, 1) for number, answer in wrong.items() if number != answer]
    confusion += [(3, 3, 2), (3, 4, 2)]
    scores = [ClassScore(label, 0.9, 0.9, 0.8 + 0.1 * (number % 2), 4) for number, label in enumerate(labels)]
    scores[3] = ClassScore(labels[3], 0.5, 0.5, 0.5, 4)
    scores[5] = ClassScore(labels[5], 0.0, 0.0, 0.0, 0)
    return replace(GOOD, labels=labels, classes=scores, confusion=sorted(confusion))


@pytest.mark.parametrize("classes", [300, 5000])
def test_the_report_of_many_classes_is_short_and_shows_the_worst(classes: int, dataset: Dataset) -> None:
    result = many(classes)
    rows = {
        split: {label: 10 + (label == result.labels[9]) for label in result.labels} for split in dataset.report["rows"]
    }
    training = {"history": [asdict(Epoch(1, 0.5, 0.5, 0.9, 1.0, 1.0))], "precision": "fp32", "device": "cpu"}
    page = render_report(result, gate(result, 0.9), training, {**dataset.report, "rows_by_label": rows})
    parser = _Balanced()
    parser.feed(page)
    assert not parser.open and len(page.encode()) < 400_000
    first_pair = page[page.index("<h2>Most confused") :].split("<td>")[1:4]
    assert [cell.split("</td>")[0] for cell in first_pair] == [result.labels[3], result.labels[4], "2"]
    lowest = page[page.index("lowest F1") :].split("<td>")[1]
    assert lowest.startswith(f"{result.labels[3]}<")  # class 5 has no rows in the test, so nothing is known of it
    assert "<td>10</td><td>10</td><td>11</td>" in page


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


def test_a_reason_names_some_of_many_classes_that_are_never_answered() -> None:
    result = many(1000)
    mute = replace(result, confusion=[(number, 0, 4) for number in range(1000)])
    (said,) = (reason for reason in gate(mute, 0.9).reasons if "never answered" in reason)
    assert said.endswith("and 989 more") and len(said) < 1000


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
    answers = dict(zip(dataset.test.frame["id"], dataset.test.labels, strict=True))
    found = []
    for most in (16_000_000, 3 * 25):
        monkeypatch.setattr("components.evaluation.evaluate._PROBABILITIES", most)
        found.append(replace(evaluate(bundle, dataset, Baseline("words", 1, 0.5, 0.5), answers), texts_per_second=0.0))
    assert asked == [60, 25, 25, 10] and found[0] == found[1]


def test_the_model_card_of_many_classes_names_some(bundle: Path) -> None:
    spec, result = Bundle.open(bundle).spec, many(1000)
    card = model_card(spec.model_copy(update={"labels": result.labels}), result.classes, {"train": 1})
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
    result = evaluate(tmp_path / "bundle", dataset, *load_baseline(tmp_path / "baseline"))
    assert result.cascade and result.cascade.transformer_accuracy > 0.9
    assert result.cascade.lost >= 0.8 * result.cascade.share * result.rows and result.cascade.won == 0
    assert result.accuracy == pytest.approx(result.cascade.transformer_accuracy - result.cascade.lost / result.rows)


def test_of_a_cascade_both_accuracies_are_shown(cascade_bundle: Path, dataset: Dataset, tmp_path: Path) -> None:
    train_baseline(dataset, tmp_path / "baseline", 0, 1)
    result = evaluate(cascade_bundle, dataset, *load_baseline(tmp_path / "baseline"))
    alone = Classifier(cascade_bundle, cascade=False).probabilities(dataset.test.texts).argmax(axis=1)
    truth = np.array(dataset.test.label_ids(result.labels))
    assert result.cascade is not None
    assert result.cascade.transformer_accuracy == pytest.approx((alone == truth).mean())
    assert result.cascade.share == pytest.approx(0.5, abs=0.05)
    assert result.accuracy == pytest.approx(
        result.cascade.transformer_accuracy + (result.cascade.won - result.cascade.lost) / result.rows
    )
    result.save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json") == result
    assert any("linear model answers 5" in reason for reason in gate(result, 0.9).reasons)
    finished = finish_bundle(cascade_bundle, result, dataset, tmp_path / "out")
    assert finished.spec.metrics["test_cascade_share"] == result.cascade.share
    assert "share of texts that the linear model answers 5" in (tmp_path / "out/README.md").read_text()
    assert Classifier(tmp_path / "out").cascade is not None
