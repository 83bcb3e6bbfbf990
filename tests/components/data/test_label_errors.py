from collections.abc import Sequence

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from scipy.sparse import csr_array

from components.data import label_errors
from components.data.label_errors import FOLDS, LabelErrors, probable_label_errors
from components.data.tfidf import tfidf
from tests.many_classes import many_classes

WORDS = [f"{first}{middle}{last}" for first in "bdfgklmnprst" for middle in "aeiou" for last in "bdfgklmnprst"]


def _flipped(classes: int, rows_a_class: int) -> tuple[LabelErrors, np.ndarray, Sequence[str], Sequence[str]]:
    frame = many_classes(WORDS, classes, rows_a_class, seed=2)
    random = np.random.default_rng(2)
    names, true = np.unique(frame["label"], return_inverse=True)
    flipped = random.random(len(frame)) < 0.05
    given = names[np.where(flipped, (true + random.integers(1, classes, len(frame))) % classes, true)]
    found = probable_label_errors(frame["text"].tolist(), given.tolist(), seed=1)
    return found, flipped, frame["label"].tolist(), given.tolist()


@pytest.mark.parametrize(("classes", "rows_a_class"), [(2, 300), (5, 200), (101, 20)])
def test_most_suspect_rows_are_those_whose_label_was_changed(classes: int, rows_a_class: int) -> None:
    found, flipped, true, _ = _flipped(classes, rows_a_class)
    assert found.judged == len(true)
    assert (np.diff(found.scores) >= 0).all()
    most = found.rows[: int(flipped.sum() / 2)]
    assert len(most) > 5 and flipped[most].mean() >= 0.8
    right = [found.suggested[place] == true[row] for place, row in enumerate(most)]
    assert np.mean(right) >= 0.9


def test_suspects_are_those_that_cleanlab_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    out_of_fold = label_errors._out_of_fold

    def kept(*arguments: object) -> object:
        seen.append(out_of_fold(*arguments))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(label_errors, "_out_of_fold", kept)
    found, _, _, given = _flipped(5, 120)
    _, top, probabilities = seen[0]
    matrix = np.zeros_like(probabilities)
    np.put_along_axis(matrix, top, probabilities, axis=1)
    expected = find_label_issues(
        np.unique(given, return_inverse=True)[1], matrix, filter_by="confident_learning", n_jobs=1,
        return_indices_ranked_by="self_confidence",
    )  # fmt: skip
    assert len(expected) > 10
    assert found.rows.tolist() == expected.tolist()


def test_each_row_is_judged_once_by_a_model_that_has_not_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"only{row} {'cat' if row % 2 else 'dog'}" for row in range(40)]
    matrix = csr_array(tfidf(True).fit_transform(texts))
    given = np.arange(40) % 2
    trained: list[set[int]] = []

    def machines(rows: csr_array, labels: np.ndarray, classes: int, seed: int) -> object:
        assert np.bincount(labels).tolist() == [16, 16]
        trained.append({int(row) for row in rows.indices})
        return lambda others: np.zeros((others.shape[0], classes))

    monkeypatch.setattr(label_errors, "_machines", machines)
    judged = [rows.tolist() for rows, _ in label_errors._scores(matrix, given, 2, seed=0)]
    assert sorted(row for rows in judged for row in rows) == list(range(40))
    own = [int(matrix[[row]].indices.max()) for row in range(40)]
    for rows, features in zip(judged, trained, strict=True):
        alone = {int(f) for row in rows for f in matrix[[row]].indices if matrix[:, [f]].nnz == 1}
        assert len(own) == 40 and alone and not alone & features


def test_class_with_fewer_rows_than_folds_is_not_judged() -> None:
    texts = [f"a cat sat {row}" for row in range(20)] + [f"the dog ran {row}" for row in range(20)] + ["a cat sat"] * 4
    labels = ["cat"] * 20 + ["dog"] * 20 + ["rare"] * (FOLDS - 1)
    found = probable_label_errors(texts, labels, seed=0)
    assert found.judged == 40 and len(found.rows) == 0


@pytest.mark.parametrize(
    "texts", [["a b", "a c"] * 10, [f"one{row}" for row in range(20)], [""] * 20], ids=["class", "words", "empty"]
)
def test_nothing_is_said_where_nothing_can_be_learned(texts: list[str]) -> None:
    labels = ["x"] * 20 if texts[0] == "a b" else ["x", "y"] * 10
    found = probable_label_errors(texts, labels, seed=0)
    assert (len(found.rows), found.suggested, len(found.scores)) == (0, [], 0)
