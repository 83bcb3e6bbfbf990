"""A cascade is built where it is shown to lose next to nothing, and not otherwise."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from components.data.dataset import Dataset, Split
from components.training.export import cascade
from components.training.export.cascade import (
    LEAST_ROWS,
    MAX_LOSS,
    MIN_SHARE,
    build_cascade,
    choose_threshold,
    train_stage,
)
from components.training.export.paired import paired_interval
from predictor.model.cascade import CASCADE_FILE, Cascade, LinearStage
from predictor.model.text import Encoder
from tests.conftest import toy_frame

LABELS = ["Business", "Sports", "World"]


def rows_of(split: Split, right: NDArray[np.bool_] | bool = True) -> NDArray[np.float32]:
    """Return probabilities of a transformer that is right, or wrong where it is not."""
    answers = (np.array(split.label_ids(LABELS)) + ~np.broadcast_to(right, len(split))) % 3
    rows: NDArray[np.float32] = np.where(np.eye(3)[answers] > 0, 0.9, 0.05).astype(np.float32)
    return rows


def large(dataset: Dataset, train: int, validation: int) -> Dataset:
    """Return many rows; of every fifth, a linear model can learn nothing."""

    def split(name: str, rows_a_class: int, seed: int) -> Split:
        frame = toy_frame(rows_a_class, seed).assign(id=lambda rows: [f"{name}-{place}" for place in rows.index])
        frame.loc[::5, "text"] = "qwx " + frame["id"]
        return Split(frame)

    return replace(dataset, train=split("train", train, 5), validation=split("validation", validation, 6))


def test_a_stage_learns_words_and_where_there_are_no_spaces_characters() -> None:
    frame = toy_frame(60, 3)
    truth = np.array(Split(frame).label_ids(LABELS))
    test = toy_frame(30, 4)
    for unit, drop in (("words", " "), ("characters", "")):
        stage = train_stage([text.replace(" ", drop) for text in frame["text"]], truth, 3)
        answers = stage([text.replace(" ", drop) for text in test["text"]]).argmax(axis=1)
        assert stage.unit == unit and (answers == Split(test).label_ids(LABELS)).mean() > 0.95


@pytest.mark.parametrize("kept", [[0, 1], [0, 2], [1, 2]])
def test_a_class_without_rows_is_never_the_answer(kept: list[int]) -> None:
    frame = toy_frame(40, 3)
    frame = frame[frame["label"].isin([LABELS[place] for place in kept])]
    truth = np.array(Split(frame).label_ids(LABELS))
    stage = train_stage(frame["text"].tolist(), truth, 3)
    assert (stage(frame["text"].tolist()).argmax(axis=1) == truth).mean() > 0.95
    assert set(stage(toy_frame(40, 4)["text"].tolist()).argmax(axis=1)) == set(kept)


@pytest.mark.parametrize("classes", [2, 3])
def test_serving_computes_what_was_trained(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[tuple[LinearSVC, Any]] = []

    class Watched(LinearSVC):  # type: ignore[misc]
        def fit(self, vectors: Any, labels: Any) -> LinearSVC:
            fitted.append((self, vectors))
            return super().fit(vectors, labels)

    monkeypatch.setattr(cascade, "LinearSVC", Watched)
    frame = toy_frame(40, 3)
    frame = frame[frame["label"].isin(LABELS[:classes])]
    texts = frame["text"].tolist()
    stage = train_stage(texts, np.array(Split(frame).label_ids(LABELS)), classes)
    ((model, vectors),) = fitted
    scores = model.decision_function(vectors)
    wanted = scores if classes > 2 else np.stack([-scores, scores], axis=1)
    np.testing.assert_allclose(stage(texts), wanted, atol=0.002)  # weights are rounded


def test_training_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    frame = toy_frame(40, 3)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        train_stage(frame["text"].tolist(), np.array(Split(frame).label_ids(LABELS)), 3).save(tmp_path / name)
    assert (tmp_path / "one" / CASCADE_FILE).read_bytes() == (tmp_path / "two" / CASCADE_FILE).read_bytes()


@given(st.integers(10, 4000), st.floats(0, 0.2), st.floats(0, 0.2), st.integers(0, 100))
def test_a_threshold_keeps_the_loss_within_its_bound(rows: int, lost: float, won: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    confidence = random.random(rows, dtype=np.float32).round(2)  # with many ties
    draw = random.random(rows)
    linear, transformer = draw >= lost, (draw < lost) | (draw < 1 - won)
    found = choose_threshold(confidence, linear, transformer)
    if rows < LEAST_ROWS and not won:
        assert found is None
    if found:
        exits = confidence >= found.confidence
        losses, wins = (exits & transformer & ~linear).sum(), (exits & linear & ~transformer).sum()
        assert found.most_loss == paired_interval(int(losses), int(wins), rows)[1] <= MAX_LOSS
        assert found.share == exits.mean()


def test_the_largest_share_that_may_exit_does() -> None:
    confidence = np.linspace(1, 0, 4000, dtype=np.float32)
    right = np.ones(4000, dtype=bool)
    linear = np.arange(4000) < 3000
    found = choose_threshold(confidence, linear, right)
    assert found is not None and found.share == pytest.approx(0.75, abs=1e-3)
    everywhere = choose_threshold(confidence, right, right)
    assert everywhere is not None and everywhere.share == 1
    assert choose_threshold(confidence, ~right, right) is None


def test_the_least_rows_are_those_with_which_an_equal_model_is_shown_to_be_one() -> None:
    assert paired_interval(0, 0, LEAST_ROWS)[1] <= MAX_LOSS < paired_interval(0, 0, LEAST_ROWS - 1)[1]


def test_a_cascade_is_built_and_says_what_it_costs(
    dataset: Dataset, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    trained: list[str] = []

    def train(cleaned: Sequence[str], *more: Any) -> LinearStage:
        trained.extend(cleaned)
        return train_stage(cleaned, *more)

    monkeypatch.setattr(cascade, "train_stage", train)

    def answer(texts: list[str]) -> NDArray[np.float32]:
        asked.extend(texts)
        frame = data.train.frame
        return rows_of(Split(frame[frame["text"].isin(texts)]))

    encoder = Encoder(bundle, 64)
    few = large(dataset, 900, 300)
    spec, why = build_cascade(few, few.train, few.validation, rows_of(few.validation), encoder, answer, tmp_path)
    assert spec is None and why.startswith("no cascade, since 900 rows cannot show") and not list(tmp_path.iterdir())

    data = large(dataset, 3000, 300)
    seen = data.train.sample(1000, 0)
    spec, why = build_cascade(data, seen, data.validation, rows_of(data.validation), encoder, answer, tmp_path)
    assert spec is not None and why.startswith("cascade: a linear model answers ")
    assert len(asked) == 2000 and not set(asked) & set(seen.texts)  # a quarter of the others
    assert len(trained) == 7000 and not set(trained) & set(asked)
    assert (spec.rows, spec.accuracy_transformer) == (2900, 1.0) and spec.share > 0.5 and spec.most_loss <= MAX_LOSS
    assert spec.accuracy >= 0.999 and spec.calibration_error < 0.2
    held = encoder.clean([*data.validation.texts, *asked])
    served = Cascade(LinearStage.load(tmp_path, spec.unit, 3), spec)
    assert served(held)[1].mean() == spec.share
    assert sum(spec.reference.confidence_histogram) == len(data.validation)
    assert 0 < sum(spec.reference.token_histogram) < len(data.validation)  # of the texts that were left
    assert LinearStage.load(tmp_path, spec.unit, 3)(["goal cup"]).argmax() == LABELS.index("Sports")


def test_a_linear_model_that_is_worse_gets_no_cascade(dataset: Dataset, bundle: Path, tmp_path: Path) -> None:
    data = large(dataset, 100, 1000)
    noise = np.random.default_rng(0).permutation(data.train.frame["label"])
    data = replace(data, train=Split(data.train.frame.assign(label=noise)))
    spec, why = build_cascade(
        data, data.train, data.validation, rows_of(data.validation), Encoder(bundle, 64), rows_of, tmp_path,  # type: ignore[arg-type]
    )  # fmt: skip
    assert spec is None and why.startswith("no cascade, since the linear model may answer 0%")
    assert not list(tmp_path.iterdir()) and MIN_SHARE > 0
