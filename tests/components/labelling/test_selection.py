"""Which rows are picked: uncertain ones, and no two that are much alike."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from components.labelling.selection import features, most, pick, uncertainty


def test_uncertainty_is_the_lead_of_the_first_class_over_the_second() -> None:
    found = uncertainty(np.array([[0.5, 0.5, 0], [0.9, 0.05, 0.05], [0, 0, 1], [0.4, 0.35, 0.25]], dtype=np.float32))
    assert found == pytest.approx([1, 0.15, 0, 0.95], abs=1e-6)


def test_near_copies_are_not_picked_one_after_another() -> None:
    texts = ["shares fell after the warning today", "shares fell after the warning", "the keeper saved a penalty"]
    found = pick(np.array([1, 0.99, 0.9], dtype=np.float32), features(texts), 2)
    assert found.tolist() == [0, 2]


def test_texts_without_spaces_are_told_apart() -> None:
    points = features(["北京今天股市大跌", "北京今天股市大跌了", "国足今晚对阵日本", "..."])
    near = (points @ points.T).toarray()
    assert near[0, 1] > 0.7 and near[0, 2] < 0.2
    assert near.diagonal() == pytest.approx([1, 1, 1, 0])


def test_every_row_is_picked_once_where_the_budget_is_large() -> None:
    scores = np.zeros(5, dtype=np.float32)
    assert sorted(pick(scores, csr_matrix(np.eye(5)), 99).tolist()) == list(range(5))
    assert pick(scores[:0], csr_matrix((0, 5)), 3).tolist() == []


def test_of_equal_scores_the_first_rows_come_first() -> None:
    assert most(np.array([0.5, 1, 0.5, 1], dtype=np.float32), 3).tolist() == [1, 3, 0]
