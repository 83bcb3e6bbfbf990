"""Measures of agreement against published examples and other packages."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from components.labelling.agreement import Numbers, cohen, cohen_pairs, fleiss, krippendorff

# The table of Fleiss, Levin and Paik as it is often printed: 10 subjects, 14 raters, 5 categories.
FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip
# Krippendorff (2011), example C: 4 observers, 12 units, with answers missing.
KRIPPENDORFF = ["123321412***", "1233224125*3", "*3332342251*", "12332441251*"]


def _numbers(columns: list[str]) -> tuple[Numbers, Numbers, Numbers]:
    cells = [
        (row, who, int(cell)) for who, column in enumerate(columns) for row, cell in enumerate(column) if cell != "*"
    ]
    rows, whos, labels = np.array(cells).T
    return rows, whos, labels


def test_cohens_kappa_of_the_usual_example_is_four_tenths() -> None:
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert cohen(first, second) == pytest.approx(0.4)
    assert cohen(first[:0], second[:0]) is None and cohen(first[:3], first[:3]) is None


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40))
def test_cohens_kappa_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs).T
    if len(set(first.tolist()) | set(second.tolist())) > 1:
        assert cohen(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_pairs_are_compared_on_the_rows_that_both_answered() -> None:
    rows, who, labels = np.array([[0, 0, 0], [1, 0, 1], [2, 0, 0], [1, 1, 1], [2, 1, 0], [3, 1, 1], [9, 2, 0]]).T
    assert cohen_pairs(rows, who, labels) == {(0, 1): (2, 1.0)}


def test_fleiss_kappa_of_the_published_table() -> None:
    rows = np.repeat(np.arange(10), 14)
    labels = np.concatenate([np.repeat(np.arange(5), row) for row in FLEISS])
    count, kappa = fleiss(rows, labels)
    assert count == 10 and kappa == pytest.approx(0.210, abs=5e-4)


def test_fleiss_takes_the_rows_of_the_most_frequent_number_of_answers() -> None:
    rows, labels = np.array([0, 0, 1, 1, 2, 3, 3, 3]), np.array([0, 0, 1, 1, 0, 0, 1, 1])
    assert fleiss(rows, labels) == (2, 1.0)
    assert fleiss(np.array([0, 1]), np.array([0, 1])) == (0, None)


def test_krippendorffs_alpha_of_the_published_example() -> None:
    rows, _, labels = _numbers(KRIPPENDORFF)
    assert krippendorff(rows, labels) == pytest.approx(0.743, abs=5e-4)


def test_krippendorffs_alpha_is_nothing_without_two_answers_or_two_labels() -> None:
    assert krippendorff(np.array([0, 1]), np.array([0, 1])) is None
    assert krippendorff(np.array([0, 0]), np.array([1, 1])) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=30))
def test_krippendorffs_alpha_is_crowd_kits(cells: list[tuple[int, int, int]]) -> None:
    from crowdkit.metrics.data import alpha_krippendorff

    answers = pd.DataFrame(cells, columns=["task", "worker", "label"]).drop_duplicates(["task", "worker"])
    compared = answers[answers.groupby("task")["label"].transform("size") > 1]
    if compared["label"].nunique() > 1:
        ours = krippendorff(answers["task"].to_numpy(), answers["label"].to_numpy())
        assert ours == pytest.approx(alpha_krippendorff(compared))
