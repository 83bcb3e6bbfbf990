from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.evaluation.checks import Check
from components.evaluation.gate import GateDecision, gate
from components.evaluation.scores import BehaviourScore, CascadeScore, Champion, ClassScore, Evaluation, SliceScore
from components.evaluation.thresholds import Thresholds
from predictor.errors import InputError
from tests.components.evaluation.evaluations import CHAMPION, GOOD, SCORE, UNTESTED, many, with_score

USUAL = Thresholds()


def failed(evaluation: Evaluation, thresholds: Thresholds = USUAL) -> list[Check]:
    decision = gate(evaluation, thresholds)
    assert decision.passed == all(check.passed for check in decision.checks)
    return [check for check in decision.checks if not check.passed]


def test_a_good_model_passes_and_each_check_is_a_sentence() -> None:
    decision = gate(replace(GOOD, champion=CHAMPION, cascade=CascadeScore(0.6, 0.95, 3, 3)), USUAL)
    assert decision.passed
    assert {check.name for check in decision.checks} == {
        "accuracy", "baseline", "leakage", "champion", "classes and slices", "calibration", "agreement", "cascade",
        "latency", "size",
    }  # fmt: skip
    assert decision.reasons == [check.sentence for check in decision.checks]


@pytest.mark.parametrize(
    ("bad", "name", "said"),
    [
        (with_score(accuracy=0.8999), "accuracy", "below 90.00%"),
        (replace(GOOD, only_model_right=20, only_baseline_right=60), "baseline", ") is significantly better"),
        (with_score(not_numbers=2), "numbers", "2 of 1,000 rows get probabilities that are no numbers"),
        (replace(GOOD, leaked=7), "leakage", "7 test rows are also training rows: prepare the data again"),
        (with_score(calibration_error=0.121), "calibration", "0.121 is over 0.100"),
        (replace(GOOD, agreement=0.94), "agreement", "int8 and fp32 agree on 94.00% of 1,000 rows, under 97.00%"),
        (replace(GOOD, cascade=CascadeScore(0.6, 0.97, 30, 3)), "cascade", "shown to lose over 0.1 points"),
        (replace(GOOD, latency_ms=501.0), "latency", "501 ms here (99th percentile), over 500 ms"),
        (replace(GOOD, size_bytes=2_100_000_000), "size", "2100 MB, over 2000 MB"),
        (replace(GOOD, slices=[SliceScore("source = x", 100, 50)]), "slice", "source = x 50 of 100 rows are right"),
        (
            replace(GOOD, behaviour=[BehaviourScore("typos", "invariance", 200, 140, 0.9, [])]), "behaviour",
            "'typos' holds for 140 of 200 texts, under 90%",
        ),
        (
            with_score(classes=[SCORE.classes[0], ClassScore("<b>", 0.9, 0.05, 0.1, 500)]), "class",
            "of class <b> 25 of 500 rows are found, under 20%",
        ),
    ],
)  # fmt: skip
def test_each_check_can_close_the_gate(bad: Evaluation, name: str, said: str) -> None:
    (check,) = failed(bad)
    assert check.name == name and said in check.sentence
    assert gate(bad, USUAL).reasons[0] == check.sentence


def test_a_figure_that_is_just_at_its_threshold_passes() -> None:
    just = with_score(
        accuracy=USUAL.min_accuracy, calibration_error=USUAL.max_calibration_error + SCORE.error_by_chance
    )
    assert failed(replace(just, latency_ms=USUAL.max_latency_ms, size_bytes=int(1e6 * USUAL.max_size_mb))) == []


def test_what_few_rows_show_by_chance_closes_nothing() -> None:
    few = [ClassScore("a", 0.9, 0.9, 0.9, 500), ClassScore("<b>", 0.0, 0.0, 0.0, 2)]
    assert not failed(with_score(classes=few))
    assert not failed(replace(GOOD, only_model_right=28, only_baseline_right=32))
    assert not failed(replace(GOOD, only_model_right=0, only_baseline_right=0))
    assert not failed(replace(GOOD, slices=[SliceScore("source = x", 30, 21)]))
    assert not failed(replace(GOOD, agreement=0.9, agreement_rows=20))
    assert not failed(with_score(calibration_error=0.15, error_by_chance=0.06))


def test_a_class_without_test_rows_does_not_close_the_gate_but_is_named() -> None:
    decision = gate(UNTESTED, USUAL)
    assert decision.passed and "without test rows, so that nothing is known of it: c" in decision.reasons


def test_a_slice_that_was_looked_for_among_the_mistakes_closes_nothing() -> None:
    assert not failed(replace(GOOD, slices=[SliceScore("has 'storm'", 100, 0, found=True)]))


def test_the_floor_of_a_slice_follows_the_floor_of_all_rows() -> None:
    weak = with_score(replace(GOOD, slices=[SliceScore("x", 200, 100)]), accuracy=0.6)
    assert [check.name for check in failed(weak)] == ["accuracy", "slice"]
    assert not failed(weak, Thresholds(min_accuracy=0.55))


@pytest.mark.parametrize(
    ("champion", "passes", "said"),
    [
        (None, True, "there is no champion yet"),
        (CHAMPION, True, "is not shown to be better or worse: the gain is +1.00 points (-0.17 to +2.21)"),
        (replace(CHAMPION, only_candidate=50), True, "is shown to be worse: the gain is +3.00 points"),
        (replace(CHAMPION, only_candidate=10, only_champion=40), False, "is shown to be better: the gain is -3.00"),
        (replace(CHAMPION, only_champion=400, same=True), True, "has the same files, so that nothing would change"),
        (replace(CHAMPION, unknown=["<b>"]), True, "it lacks <b>"),
        (
            Champion("3", "abc", missing="s3://gone holds no files"), False,
            "version 3, cannot be tested (s3://gone holds no files): bring its bundle back, or retire that version",
        ),
    ],
)  # fmt: skip
def test_the_champion_is_compared_on_the_same_rows(champion: Champion | None, passes: bool, said: str) -> None:
    decision = gate(replace(GOOD, champion=champion), USUAL)
    (check,) = (check for check in decision.checks if check.name == "champion")
    assert check.passed == decision.passed == passes and said in check.sentence


def test_a_margin_allows_models_that_mind_how_a_text_is_written() -> None:
    brittle = replace(GOOD, behaviour=[BehaviourScore("typos", "invariance", 200, 0, 0.9, [])])
    assert failed(brittle) and not failed(brittle, Thresholds(behaviour_margin=1))


def test_a_margin_allows_some_loss_against_the_champion() -> None:
    worse = replace(GOOD, champion=replace(CHAMPION, only_candidate=10, only_champion=40))
    assert not failed(worse, Thresholds(champion_margin=0.03))


def test_a_slice_on_which_the_champion_is_better_closes_the_gate() -> None:
    part = SliceScore("source = x", 200, 180, only_candidate=2, only_champion=20)
    (check,) = failed(replace(GOOD, champion=CHAMPION, slices=[part]))
    assert check.name == "slice against champion" and check.p_value and check.p_value < 0.01
    assert not failed(replace(GOOD, champion=None, slices=[part]))


def test_many_slices_of_an_equal_model_seldom_close_the_gate() -> None:
    random = np.random.default_rng(3)
    closed = 0
    for _ in range(200):
        slices = []
        for number in range(60):
            differ = int(random.binomial(200, 0.08))
            ours = int(random.binomial(differ, 0.5))
            slices.append(SliceScore(f"s{number}", 200, 180, ours, differ - ours))
        closed += bool(failed(replace(GOOD, champion=CHAMPION, slices=slices)))
    assert closed <= 0.05 * 200


def test_only_some_of_many_failing_classes_are_told_one_by_one() -> None:
    result = many(1000)
    silent = [ClassScore(row.label, 0.0, 0.0, 0.0, 60) for row in result.score.classes]
    checks = failed(with_score(result, classes=silent))
    assert len(checks) == 21 and checks[-1].sentence == "and 980 more tests of classes and slices fail"


def test_the_decision_survives_a_file(tmp_path: Path) -> None:
    decision = gate(replace(GOOD, champion=CHAMPION), USUAL)
    decision.save(tmp_path / "decision.json")
    assert GateDecision.load(tmp_path / "decision.json") == decision


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"min_acuracy": 0.9}, "the gate has no threshold 'min_acuracy': it has min_accuracy, "),
        ({"min_accuracy": 90}, "min_accuracy is 90: give a share of 1, such as 0.9"),
        ({"min_accuracy": float("nan")}, "min_accuracy is nan: give a number, 0 or more"),
        ({"max_size_mb": -1}, "max_size_mb is -1: give a number, 0 or more"),
        ({"min_agreement": "high"}, "min_agreement is 'high': give a number"),
        ({"min_agreement": None}, "min_agreement is None: give a number"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match="gate") as error:
        Thresholds.named(values)
    assert said in str(error.value)
