import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.training.export.choice import (
    MAX_INT8_LOSS,
    choose_served_precision,
    compare,
    least_mean,
)
from components.training.export.paired import paired_interval


def answers(classes: NDArray[np.int64], margin: float = 6.0) -> NDArray[np.float32]:
    """Logits of a model that answers these classes, of three, with a probability of about 0.995."""
    return np.eye(3, dtype=np.float32)[classes] * np.float32(margin)


def decide(worse: int, better: int, rows: int, more: int = 0, margin: float = 6.0) -> str:
    """The precision for int8 that is wrong on `worse` rows that fp32 gets right, and right on `better` it does not.

    On `more` rows without labels the two agree.
    """
    truth = np.zeros(rows + more, dtype=np.int64)
    fp32, int8 = truth.copy(), truth.copy()
    int8[:worse] = 1
    fp32[worse : worse + better] = 1
    seen = compare(answers(fp32, margin), answers(int8, margin), truth[:rows], 1.0)
    assert seen.rows == rows + more and seen.labelled == rows
    return choose_served_precision(seen)[0]


@pytest.mark.parametrize(
    ("worse", "better", "rows", "precision"),
    [
        (0, 0, 1, "int8"),
        (2, 0, 160, "int8"),  # as on the sample: 1.25 points, which may be chance
        (4, 0, 160, "fp32"),
        (30, 28, 4_000, "int8"),
        (60, 20, 4_000, "fp32"),  # 1 point, which on so many rows is none
        (70, 0, 20_000, "int8"),  # 0.35 points: over the limit, and not shown to be
        (90, 0, 20_000, "fp32"),
    ],
)
def test_int8_is_refused_where_labels_show_a_loss(worse: int, better: int, rows: int, precision: str) -> None:
    assert decide(worse, better, rows, margin=0.0001) == precision


@given(st.integers(1, 4), st.integers(0, 10), st.integers(0, 9))
def test_few_rows_where_both_are_alike_leave_int8(rows: int, more: int, seed: int) -> None:
    classes = np.random.default_rng(seed).integers(0, 3, rows + more)
    seen = compare(answers(classes), answers(classes), classes[:rows], 1.0)
    assert choose_served_precision(seen)[0] == "int8"


@given(st.integers(1, 40), st.integers(4, 40), st.integers(0, 99))
def test_a_broken_int8_is_refused_on_few_rows(labelled: int, more: int, seed: int) -> None:
    truth = np.random.default_rng(seed).integers(0, 3, labelled + more)
    fp32 = answers(truth)
    inverted, constant = answers((truth + 1) % 3), answers(np.full(len(truth), (truth[-1] + 1) % 3))
    assert choose_served_precision(compare(fp32, inverted, truth[:labelled], 1.0))[0] == "fp32"
    assert choose_served_precision(compare(fp32, inverted, truth, 1.0))[0] == "fp32"  # all of them labelled
    assert choose_served_precision(compare(fp32, constant, truth[:labelled], 1.0))[0] == "fp32"


def test_rows_without_labels_show_what_four_labelled_ones_cannot() -> None:
    classes = np.random.default_rng(0).integers(0, 3, 1_004)
    int8 = answers(classes)
    int8[100:130] = answers((classes[100:130] + 1) % 3)
    seen = compare(answers(classes), int8, classes[:4], 1.0)
    assert seen.low < MAX_INT8_LOSS < seen.expected_low and seen.agreement == pytest.approx(1 - 30 / 1_004)
    precision, reason = choose_served_precision(seen)
    assert precision == "fp32" and "97.01% of 1,004 rows" in reason
    # The same disagreement costs nothing where fp32 itself cannot tell the classes apart.
    torn = answers(classes)
    torn[100:130] = 0.01 * torn[100:130]
    assert choose_served_precision(compare(torn, int8, classes[:4], 1.0))[0] == "int8"


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 400), st.integers(0, 200))
def test_one_more_answer_that_int8_gets_wrong_never_gains_it_the_choice(
    worse: int, better: int, alike: int, more: int
) -> None:
    rows = worse + better + alike
    if decide(worse, better, rows, more) == "fp32":
        assert decide(worse + 1, better, rows, more) == "fp32"
        if better:
            assert decide(worse, better - 1, rows, more) == "fp32"


def test_a_model_that_loses_just_the_limit_is_refused_as_often_as_the_level_says() -> None:
    random = np.random.default_rng(0)
    for rows in (160, 2_000):
        drawn = random.multinomial(rows, [0.01 + MAX_INT8_LOSS, 0.01, 0.98 - MAX_INT8_LOSS], 4_000)
        found = {(worse, better) for worse, better, _ in drawn.tolist()}
        low = {pair: paired_interval(*pair, rows)[0] for pair in found}
        assert np.mean([low[worse, better] > MAX_INT8_LOSS for worse, better, _ in drawn.tolist()]) < 0.065


def test_the_bound_of_a_mean_is_the_exact_binomial_one() -> None:
    # Two of 160 zeros and ones: the exact binomial bound at 5%.
    assert least_mean(2 / 160, 160) == pytest.approx(0.002226, abs=1e-5)
    assert least_mean(0, 160) == 0


def test_the_reason_is_one_readable_sentence() -> None:
    truth = np.zeros(160, dtype=np.int64)
    int8 = truth.copy()
    int8[:2] = 1
    seen = compare(answers(truth, 0.01), answers(int8, 0.01), truth, 1.0)
    precision, reason = choose_served_precision(seen)
    assert precision == "int8"
    assert reason == (
        "int8 loses 1.25 points on 160 validation rows (100.00% fp32, 98.75% int8; a loss between -0.4 and 3.7 is "
        "likely) and agrees with fp32 on 98.75% of 160 rows, which shows no loss over the limit of 0.3"
    )
    assert seen.metrics["int8_loss_low"] == seen.low and seen.metrics["validation_rows"] == 160
    assert all(isinstance(value, float) for value in seen.metrics.values())
