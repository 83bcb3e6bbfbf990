"""Integrated gradients: what captum's say, in fewer steps, and complete to within a hundredth."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.data.dataset import Dataset
from predictor.errors import InputError
from predictor.model.attribution import Attribution, contrast
from predictor.model.bundle import Bundle
from predictor.model.classifier import Classifier
from predictor.model.gradients import MOST_GAP, MOST_PLACES, Gradients, Integral, Values, integrate
from predictor.model.text import Encoder


@pytest.fixture(scope="module")
def gradients(bundle: Path) -> Gradients:
    return Gradients(bundle, Bundle.open(bundle).spec, 1)


@pytest.fixture(scope="module")
def texts(bundle: Path, dataset: Dataset) -> list[str]:
    return Classifier(bundle).encoder.clean([*dataset.test.texts[::20], "goal bank", "球 zzz, «cup»", "cup " * 100])


@pytest.fixture(scope="module")
def steep(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Gradients:
    """A model with weights that no training, and so no machine, has a part in, large enough for a rough path."""
    import torch
    from transformers import AutoModelForSequenceClassification

    folder = tmp_path_factory.mktemp("steep") / "bundle"
    shutil.copytree(bundle, folder)
    model = AutoModelForSequenceClassification.from_pretrained(bundle)
    draw = torch.Generator().manual_seed(0)
    for name, weights in model.named_parameters():
        if weights.dim() == 2:
            weights.data.normal_(0, 0.5, generator=draw)
        else:
            weights.data.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
    model.save_pretrained(folder)
    return Gradients(folder, Bundle.open(bundle).spec, 1)


def _start(gradients: Gradients, text: str, filler: int) -> list[int]:
    """Return the ids of the baseline."""
    pieces = gradients._encoder.pieces(text)
    return [token if word is None else filler for token, word in zip(pieces.ids, pieces.words, strict=True)]


def _places(found: Attribution) -> int:
    return int(found.method.partition(" gradients,")[0].rpartition(" ")[2])


def test_the_parts_add_up_to_the_difference_within_one_percent(gradients: Gradients, texts: list[str]) -> None:
    within = []
    for text in texts:
        for label in range(3):
            found, _ = gradients(text, label)
            total = sum(token.attribution for token in found.tokens) + found.rest
            difference = found.score - found.baseline
            within.append(found.gap <= MOST_GAP)
            # A toy model may go a long way up and down between two scores that are nearly equal: then places run out.
            assert within[-1] or _places(found) > MOST_PLACES / 2 or abs(difference) < 1e-4
            assert abs(total - difference) <= found.gap * abs(difference) + 1e-5
            assert abs(found.rest) < 1e-4  # the special tokens are the same at both ends
            words = sum(word.attribution for word in found.words)
            assert words == pytest.approx(total, abs=1e-4)
    assert np.mean(within) > 0.9


def test_score_and_probabilities_are_those_of_the_fp32_classifier(
    gradients: Gradients, bundle: Path, texts: list[str]
) -> None:
    rows = Classifier(bundle, "torch").probabilities(texts)
    for text, row in zip(texts, rows, strict=True):
        found, probabilities = gradients(text, 1)
        np.testing.assert_allclose(probabilities, row, atol=1e-5)
        assert found.score == pytest.approx(float(np.log(row) @ contrast(3, 1)), abs=1e-3)


def test_attributions_are_those_of_captum_with_many_steps(steep: Gradients, texts: list[str]) -> None:
    import torch
    from captum.attr import LayerIntegratedGradients

    model, spec = steep._model, steep._spec
    weights = torch.tensor(contrast(3, 2) / spec.temperature, dtype=torch.float32)
    whole = LayerIntegratedGradients(lambda ids: model(input_ids=ids).logits @ weights, model.get_input_embeddings())
    for text in texts:
        found, _ = steep(text, 2)
        pieces = steep._encoder.pieces(text)
        filler = spec.pad_token_id if "padding" in found.method else steep._fillers[1][0]
        ids, start = torch.tensor([pieces.ids]), torch.tensor([_start(steep, text, filler)])
        theirs = whole.attribute(ids, start, n_steps=1000, internal_batch_size=50).sum(dim=2)[0]
        ours = np.array([token.attribution for token in found.tokens])
        scale = float(theirs.abs().sum())  # parts are larger than the difference of scores that are nearly equal
        assert np.abs(ours - theirs.numpy()[[word is not None for word in pieces.words]]).max() < 0.01 * scale


def test_the_baseline_is_the_filler_that_speaks_less_for_the_label(gradients: Gradients) -> None:
    import torch

    found, _ = gradients("goal cup striker", 0)
    scores = []
    for filler, _ in gradients._fillers:
        start = torch.tensor([_start(gradients, "goal cup striker", filler)])
        logits = gradients._model(input_ids=start).logits[0].detach().numpy() / gradients._spec.temperature
        scores.append(float(logits @ contrast(3, 0)))
    assert len(scores) == 2 and found.baseline == pytest.approx(min(scores), abs=1e-4)


def test_tokens_are_the_classifiers_and_stand_where_they_are_written(
    gradients: Gradients, bundle: Path, texts: list[str]
) -> None:
    encoder = gradients._encoder
    whole = Encoder(bundle, 1000)
    for text in texts:
        found, _ = gradients(text, 0)
        pieces = encoder.pieces(text)
        assert [pieces.ids] == encoder.encode([text])
        assert len(found.tokens) == len(pieces.ids) - pieces.words.count(None)
        assert found.truncated == (len(whole.encode([text])[0]) > encoder.max_length)
        assert all(text[token.start : token.end].strip() == text[token.start : token.end] for token in found.tokens)
        joined = "".join(text[word.start : word.end] for word in found.words)
        assert text.replace(" ", "").startswith(joined) and (found.truncated or joined == text.replace(" ", ""))


@given(st.floats(0.02, 0.98), st.floats(0.01, 0.2), st.floats(-3, 3))
@example(0.5, 0.125, -2.0)
def test_a_sharp_step_anywhere_on_the_path_is_found(place: float, width: float, slope: float) -> None:
    def score(at: float) -> float:
        return float(np.tanh((at - place) / width) + slope * at)

    def evaluate(places: Sequence[float]) -> list[tuple[float, Values]]:
        return [(score(at), np.array([1 / np.cosh((at - place) / width) ** 2 / width, slope])) for at in places]

    found = integrate(evaluate)
    difference = score(1.0) - score(0.0)
    if found.places <= MOST_PLACES - 4:  # else there was no room for another two halvings
        # Parts that nearly cancel each other out leave less than a sum in 32 bits shows.
        chance = 1e-5 * np.abs(found.parts).sum()
        assert abs(found.parts.sum() - difference) <= max(MOST_GAP * abs(difference), chance)
    assert found.parts[1] == pytest.approx(slope)
    assert (found.start, found.end) == (score(0.0), score(1.0))


@pytest.mark.parametrize(("width", "mean"), [(0.05, 0.02), (0.1, 0.01), (0.2, 0.005)])
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_parts_are_right_where_their_errors_cancel_each_other_out(width: float, mean: float, slope: float) -> None:
    """Two tokens that go opposite ways leave the score as it is: its sum shows nothing of what each of them does."""
    errors, places = [], []
    for place in np.linspace(0.1, 0.9, 33):

        def evaluate(visited: Sequence[float], place: float = place) -> list[tuple[float, Values]]:
            steps = [1 / np.cosh((at - place) / width) ** 2 / width for at in visited]
            return [(slope * at, np.array([step, slope - step])) for at, step in zip(visited, steps, strict=True)]

        found = integrate(evaluate)
        truth = float(np.tanh((1 - place) / width) + np.tanh(place / width))
        errors.append(abs(found.parts[0] - truth) / (abs(truth) + abs(slope - truth)))
        places.append(found.places)
        assert found.parts.sum() == pytest.approx(slope, abs=1e-5)
    assert np.mean(errors) < mean and max(places) < 40


def test_a_path_on_which_nothing_changes_is_not_searched() -> None:
    found = integrate(lambda places: [(1.0, np.zeros(2)) for _ in places])
    assert (found.places, found.parts.tolist()) == (9, [0.0, 0.0])


def test_a_path_without_end_of_work_ends() -> None:
    noise = np.random.default_rng(0)

    def evaluate(places: Sequence[float]) -> list[tuple[float, Values]]:
        return [(at, noise.normal(size=2)) for at in places]

    found: Integral = integrate(evaluate, most_places=21)
    assert 17 < found.places <= 21


def test_a_missing_package_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"explanations need transformers: pip install 'pigeonhole\[explain\]'"):
        Gradients(bundle, Bundle.open(bundle).spec)
