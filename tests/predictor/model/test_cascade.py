"""The linear stage answers bit for bit alike in any company, and what it is not sure of is the transformer's."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from components.data.dataset import Dataset
from predictor.errors import InputError
from predictor.model.bundle import Bundle, seal
from predictor.model.cascade import CASCADE_FILE, LinearStage
from predictor.model.classifier import Classifier
from predictor.model.ngrams import Unit

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(2**10, 3)) * [1, 100, 0.01]
BIAS = np.array([0.5, -0.5, 0.0])


@given(
    st.lists(st.text("goal profit treaty球赛. ", max_size=60), min_size=1, max_size=20),
    st.sampled_from(["words", "characters"]),
    st.randoms(use_true_random=False),
)
def test_logits_are_bit_for_bit_those_of_the_text_alone(texts: list[str], unit: Unit, order: object) -> None:
    stage = LinearStage.rounded(WEIGHTS, BIAS, unit)
    alone = {text: stage([text])[0].tobytes() for text in texts}
    order.shuffle(texts)  # type: ignore[attr-defined]
    assert [row.tobytes() for row in stage(texts)] == [alone[text] for text in texts]


def test_rounding_keeps_the_weights_of_every_class() -> None:
    stage = LinearStage.rounded(WEIGHTS, BIAS, "words")
    assert stage.weights.dtype == np.int16
    assert (np.abs(stage.weights * stage.scales - WEIGHTS) <= np.abs(WEIGHTS).max(axis=0) / 60_000).all()


def test_a_stage_survives_a_file(tmp_path: Path) -> None:
    stage = LinearStage.rounded(WEIGHTS, BIAS, "characters")
    stage.save(tmp_path)
    texts = ["goal", "球赛"]
    assert (LinearStage.load(tmp_path, "characters", 3)(texts) == stage(texts)).all()


@pytest.mark.parametrize("fault", ["none", "no safetensors", "other names", "other classes"])
def test_a_file_that_is_no_stage_is_refused(tmp_path: Path, fault: str) -> None:
    file = tmp_path / CASCADE_FILE
    stage = LinearStage.rounded(WEIGHTS, BIAS, "words")
    if fault == "no safetensors":
        file.write_bytes(b"no")
    if fault == "other names":
        save_file({"w": stage.weights}, file)
    if fault == "other classes":
        LinearStage.rounded(WEIGHTS[:, :2], BIAS[:2], "words").save(tmp_path)
    with pytest.raises(InputError, match=r"cascade.safetensors .*: train the bundle again"):
        LinearStage.load(tmp_path, "words", 3)


def test_the_linear_model_answers_where_it_is_sure_and_the_transformer_elsewhere(
    cascade_bundle: Path, dataset: Dataset
) -> None:
    texts = [*dataset.test.texts, "zzz", *dataset.validation.texts]
    pair, transformer = Classifier(cascade_bundle), Classifier(cascade_bundle, cascade=False)
    assert pair.cascade is not None and transformer.cascade is None
    linear, exits = pair.cascade(pair.encoder.clean(texts))
    counts: list[int] = []
    rows = pair.probabilities(texts, counts.append)
    assert 20 < exits.sum() < len(texts) - 20 and not exits[60]
    assert rows[exits].tobytes() == linear[exits].tobytes()
    np.testing.assert_allclose(rows[~exits], transformer.probabilities(texts)[~exits], atol=1e-6)
    alone = [pair.cascade([text]) for text in pair.encoder.clean(texts)]
    assert b"".join(row.tobytes() for row, _ in alone) == linear.tobytes()
    assert [bool(gone[0]) for _, gone in alone] == exits.tolist()
    assert counts == sorted(counts) and counts[0] == exits.sum() and counts[-1] == len(texts)
    assert (linear[exits].max(axis=1) >= pair.cascade.spec.threshold).all()


@pytest.mark.parametrize(("threshold", "exits"), [(0.0, True), (1.0, False)])
def test_all_or_none_may_exit(cascade_bundle: Path, tmp_path: Path, threshold: float, exits: bool) -> None:
    shutil.copytree(cascade_bundle, tmp_path / "bundle")
    spec = Bundle.open(tmp_path / "bundle").spec
    assert spec.cascade is not None
    cascade = spec.cascade.model_copy(update={"threshold": threshold})
    seal(tmp_path / "bundle", spec.model_copy(update={"cascade": cascade}))
    classifier = Classifier(tmp_path / "bundle")
    texts = ["goal cup striker zzz", "profit"]
    rows = classifier.probabilities(texts)
    assert classifier.cascade is not None and (classifier.cascade(texts)[1] == exits).all()
    assert rows.shape == (2, 3) and np.allclose(rows.sum(axis=1), 1)


def test_a_changed_stage_is_no_bundle(cascade_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(cascade_bundle, tmp_path / "bundle")
    LinearStage.rounded(WEIGHTS, BIAS, "words").save(tmp_path / "bundle")
    with pytest.raises(InputError, match=r"cascade.safetensors was changed"):
        Classifier(tmp_path / "bundle")
