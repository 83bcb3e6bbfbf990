"""Multi-label models tested: their figures, comparisons, the gate, the report and the card."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import f1_score, hamming_loss

from components.data.dataset import Dataset
from components.evaluation.champion import ChampionBundle
from components.evaluation.evaluate import evaluate
from components.evaluation.gate import gate
from components.evaluation.metrics import by_key
from components.evaluation.reporting.report import render_report
from components.evaluation.scores import Evaluation, F1Gain
from components.evaluation.sets.measure import SetPredictions, measure_sets, worst_sets
from components.evaluation.statistics import Parts, f1_gain, f1_interval
from components.evaluation.thresholds import Thresholds
from components.training.baseline import load_baseline, train_baseline
from predictor.label_matrix import label_matrix, texts_of
from predictor.model.bundle import Bundle
from tests.components.evaluation.evaluations import GOOD
from tests.multi_label import LABELS

Pair = tuple[NDArray[np.bool_], NDArray[np.bool_]]
EVEN = F1Gain(0.0, -0.01, 0.01, 0.5, 0.5)
"""Against a baseline that is as good: on the toy words none is better than a linear model."""
THRESHOLDS = Thresholds(min_micro_f1=0.7, min_class_recall=0.2, max_calibration_error=0.2)


def _tables(rows: int = 12, labels: int = 3) -> st.SearchStrategy[Pair]:
    table = arrays(np.bool_, (rows, labels))
    return st.tuples(table, table)


def _given(has: NDArray[np.bool_], truth: NDArray[np.bool_], sure: float = 0.75) -> SetPredictions:
    share = np.full(has.shape, sure, dtype=np.float32)
    of_truth = np.where(has == truth, share, 1 - share).astype(np.float32)
    return SetPredictions(has, share, of_truth, np.ones(len(has), dtype=bool))


@given(_tables())
def test_figures_are_sklearns(pair: Pair) -> None:
    has, truth = pair
    score = measure_sets(_given(has, truth), truth, LABELS) if truth.any() else None
    if score is None:
        return
    assert score.sets is not None
    assert score.sets.micro_f1 == pytest.approx(f1_score(truth, has, average="micro", zero_division=0.0))
    assert score.sets.hamming_loss == pytest.approx(hamming_loss(truth, has))
    assert score.accuracy == pytest.approx((truth == has).all(axis=1).mean())
    tested = truth.any(axis=0)
    expected = f1_score(truth, has, average=None, zero_division=0.0)[tested].mean()
    assert score.macro_f1 == pytest.approx(expected)
    for row, mine, there in zip(score.sets.counts, has.T, truth.T, strict=True):
        assert (row.found, row.wrong, row.missed) == (
            (mine & there).sum(),
            (mine & ~there).sum(),
            (~mine & there).sum(),
        )
        assert row.found + row.wrong + row.missed + row.left == len(has)
    assert score.calibration_error == pytest.approx(abs(0.75 - (truth == has).mean()))


@given(_tables(), arrays(np.bool_, (12, 3)))
def test_the_gain_is_that_of_micro_f1_and_turns_round(pair: Pair, other: NDArray[np.bool_]) -> None:
    has, truth = pair
    one, two = Parts.of(has, truth), Parts.of(other, truth)
    if truth.any() or has.any():
        assert one.f1() == pytest.approx(f1_score(truth, has, average="micro", zero_division=0.0))
    gain, low, high, worse, better = f1_gain(one, two)
    back, low_back, high_back, worse_back, better_back = f1_gain(two, one)
    assert gain == pytest.approx(-back) and (worse, better) == (better_back, worse_back)
    assert (low, high) == pytest.approx((-high_back, -low_back), abs=0.05)
    assert f1_gain(one, one)[0] == 0 and f1_gain(one, one)[3:] == (1.0, 1.0)


def test_the_bootstrap_shows_a_difference_that_there_is_and_no_other() -> None:
    random = np.random.default_rng(0)
    truth = random.random((800, 4)) < 0.3
    good, same, poor = (truth ^ (random.random(truth.shape) < share) for share in (0.05, 0.05, 0.12))
    *_, worse, better = f1_gain(Parts.of(good, truth), Parts.of(poor, truth))
    assert better < 0.001 and worse > 0.999
    gain, low, high, worse, better = f1_gain(Parts.of(good, truth), Parts.of(same, truth))
    assert low < gain < high and worse > 0.05 and better > 0.05
    low, high = f1_interval(Parts.of(good, truth))
    assert low < Parts.of(good, truth).f1() < high < low + 0.1


def test_labels_come_back_from_a_text_and_the_worst_rows_are_told() -> None:
    truth = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]], dtype=bool)
    texts = texts_of(truth, LABELS)
    assert texts == ["Business|World", "", "Business|Sports|World"] and (label_matrix(texts, LABELS) == truth).all()
    has = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]], dtype=bool)
    sure = np.array([[0.9, 0.9, 0.9], [0.9, 0.6, 0.9], [0.9, 0.9, 0.8]], dtype=np.float32)
    given_ = SetPredictions(has, sure, sure, np.ones(3, dtype=bool))
    found = worst_sets(["a", "b", "c"], LABELS, truth, given_)
    assert [(row.text, row.label, row.answer) for row in found] == [
        ("c", "Business|Sports|World", "Business|Sports"), ("b", "", "Sports")
    ]  # fmt: skip


def test_the_test_of_a_bundle(sets_evaluated: Any, sets_dataset: Dataset, tmp_path: Path) -> None:
    finished, (evaluation, answers) = sets_evaluated
    score = evaluation.score
    assert score.sets.micro_f1 > 0.8 and score.sets.micro_f1_low < score.sets.micro_f1 < score.sets.micro_f1_high
    assert evaluation.rows == len(sets_dataset.test) and 0 < evaluation.baseline_micro_f1 < 1
    assert evaluation.confusion == [] and evaluation.cascade is None
    assert answers["answer"].isin({*sets_dataset.train.labels}).all()
    right = (answers["answer"] == answers["label"]).mean()
    assert right == pytest.approx(score.accuracy)
    spec = Bundle.open(finished).spec
    assert spec.metrics["test_micro_f1"] == score.sets.micro_f1 and spec.metrics["test_accuracy"] == score.accuracy
    assert {"test_hamming_loss", "test_macro_f1", "test_micro_recall"} <= by_key(evaluation).keys()
    evaluation.save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json") == evaluation


def test_the_gate_decides_by_micro_f1(sets_evaluated: Any) -> None:
    evaluation = replace(sets_evaluated[1].evaluation, baseline_gain=EVEN)
    passed = gate(evaluation, THRESHOLDS)
    assert passed.passed, passed.reasons
    assert passed.checks[0].name == "micro F1" and passed.checks[0].threshold == 0.7
    closed = gate(evaluation, replace(THRESHOLDS, min_micro_f1=0.999))
    assert not closed.passed and closed.reasons[0].startswith("micro F1") and "below 0.999" in closed.reasons[0]
    worse = replace(evaluation, baseline_gain=F1Gain(-0.1, -0.12, -0.08, 0.001, 0.999))
    assert "is significantly better (bootstrap p = 0.001)" in gate(worse, THRESHOLDS).reasons[0]


def test_a_label_that_is_not_found_closes_the_gate(sets_evaluated: Any) -> None:
    evaluation = replace(sets_evaluated[1].evaluation, baseline_gain=EVEN)
    classes = [replace(row, recall=0.0) if row.label == "World" else row for row in evaluation.score.classes]
    missed = replace(evaluation, score=replace(evaluation.score, classes=classes))
    decided = gate(missed, THRESHOLDS)
    assert not decided.passed and "of class World 0 of" in decided.reasons[0]


def test_a_champion_is_compared_on_the_same_rows(
    sets_draft: Path, bundle: Path, sets_evaluated: Any, sets_dataset: Dataset, tmp_path: Path
) -> None:
    train_baseline(sets_dataset, tmp_path / "baseline", 0, 7)
    baseline = load_baseline(tmp_path / "baseline")
    single = ChampionBundle("3", "", bundle)
    result = evaluate(sets_draft, sets_dataset, *baseline, champion=single).evaluation
    champion = result.champion
    assert champion and champion.score and champion.score.sets and champion.gain
    assert champion.gain.gain > 0 and champion.gain.p_better < 0.05  # a text gets one label from it
    check = next(check for check in gate(result, THRESHOLDS).checks if check.name == "champion")
    assert check.passed and "is shown to be worse" in check.sentence
    result.save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json") == result
    turned = replace(
        result, baseline_gain=EVEN, champion=replace(champion, gain=F1Gain(-0.1, -0.12, -0.08, 0.001, 0.999))
    )
    assert "is shown to be better" in gate(turned, THRESHOLDS).reasons[0]


def test_the_report_shows_counts_in_place_of_a_matrix(sets_evaluated: Any, sets_dataset: Dataset) -> None:
    evaluation = sets_evaluated[1].evaluation
    epoch = {"train_loss": 0.5, "validation_loss": 0.4, "validation_accuracy": 0.8, "texts_per_second": 9}
    history = [{"epoch": number, **epoch} for number in (1, 2)]
    training = {"history": history, "precision": "fp32", "device": "cpu", "precision_reason": "a test"}
    drawn = render_report(evaluation, gate(evaluation, THRESHOLDS), training, sets_dataset.report)
    for part in (drawn.html, drawn.markdown):
        assert "micro F1" in part and "wrongly given" in part and "Hamming loss" in part
        assert "Confusion matrix" not in part
    assert "validation micro F1" in drawn.html
    assert f"{evaluation.score.sets.counts[0].left:,}" in drawn.html


def test_the_card_says_that_a_text_may_have_several_labels(sets_evaluated: Any) -> None:
    card = (sets_evaluated[0] / "README.md").read_text()
    assert "any number of 3 labels: Business, Sports, World" in card and "top_k=None" in card
    assert "micro F1" in card and "A text has a label from this calibrated probability on" in card


def test_an_evaluation_of_single_labels_is_written_as_before(tmp_path: Path) -> None:
    GOOD.save(tmp_path / "evaluation.json")
    raw = json.loads((tmp_path / "evaluation.json").read_text())
    assert not {"baseline_gain", "baseline_micro_f1"} & raw.keys() and "sets" not in raw["score"]
