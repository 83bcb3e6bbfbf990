import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel, pipeline

from components.data.dataset import Dataset, Split
from components.training.few_shot.contrast import BalancedRows, class_batches, contrast, crop, pair_loss
from components.training.few_shot.head import embed, fit_head, fit_logistic, head_loss
from components.training.fine_tuning.model import features, load_classifier, output_layer, score
from components.training.fine_tuning.precision import TrainingPrecision
from components.training.recipe import Epoch, Method, Recipe, choose_method
from predictor.errors import InputError
from predictor.model.engine import pad
from predictor.model.text import Encoder
from tests.conftest import toy_frame

LABELS = ["Business", "Sports", "World"]
FP32 = TrainingPrecision("fp32", torch.device("cpu"), "the test", lambda: torch.autocast("cpu", enabled=False))


@pytest.fixture(scope="module")
def sentence_encoder(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny backbone with the note of sentence-transformers that it pools by the mean."""
    folder = shutil.copytree(backbone, tmp_path_factory.mktemp("pooled") / "encoder")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return folder


def test_the_mean_layer_hands_on_the_mean_of_all_tokens_whatever_the_padding(sentence_encoder: Path) -> None:
    ids = Encoder(sentence_encoder, 32)(["goal match", "shares profit bank market price oil merger"])
    tokens, mask = map(torch.from_numpy, pad(ids, 0))
    model = load_classifier(sentence_encoder, LABELS, pooled=True)
    model.train(False)
    encoder: Any = AutoModel.from_pretrained(sentence_encoder)  # in evaluation mode, as from_pretrained leaves it
    with torch.no_grad():
        found = features(model, tokens, mask, FP32)
        hidden, real = encoder(input_ids=tokens, attention_mask=mask).last_hidden_state, mask[..., None]
    mean = (hidden * real).sum(1) / real.sum(1)
    expected = torch.nn.functional.layer_norm(mean, mean.shape[1:])
    torch.testing.assert_close(
        torch.nn.functional.normalize(found), torch.nn.functional.normalize(expected), atol=1e-3, rtol=0
    )


def test_a_backbone_that_reads_its_first_token_gets_no_layer(backbone: Path, sentence_encoder: Path) -> None:
    layers = [
        load_classifier(folder, LABELS, pooled=pooled).config.num_hidden_layers
        for folder, pooled in ((backbone, True), (sentence_encoder, False), (sentence_encoder, True))
    ]
    assert layers == [2, 2, 3]


@pytest.mark.parametrize("method", ["frozen", "few-shot"])
def test_the_result_is_an_ordinary_classifier(
    sentence_encoder: Path, dataset: Dataset, tmp_path: Path, method: Method
) -> None:
    train = Split(toy_frame(8, 5))
    recipe = Recipe(epochs=1, max_length=64, method=method)
    told: list[Epoch] = []
    history = fit_head(sentence_encoder, train, dataset.validation, LABELS, recipe, tmp_path, 1, told.append)
    answers = pipeline("text-classification", model=str(tmp_path), device="cpu")(
        dataset.validation.texts, truncation=True
    )
    right = np.mean(
        [answer["label"] == label for answer, label in zip(answers, dataset.validation.labels, strict=True)]
    )
    assert told == history and right == pytest.approx(history[0].validation_accuracy, abs=0.06)
    assert right > 0.7
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["recipe"]["method"] == method and len(record["history"]) == 1


def test_the_same_seed_gives_the_same_weights(sentence_encoder: Path, dataset: Dataset, tmp_path: Path) -> None:
    train, recipe = Split(toy_frame(4, 5)), Recipe(epochs=1, max_length=32, method="few-shot")
    weights = []
    for run, seed in enumerate((3, 3, 4)):
        fit_head(sentence_encoder, train, dataset.validation, LABELS, recipe, tmp_path / str(run), seed)
        weights.append(load_file(tmp_path / str(run) / "model.safetensors"))
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not np.array_equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_contrast_changes_the_encoder_and_frozen_does_not(
    sentence_encoder: Path, dataset: Dataset, tmp_path: Path
) -> None:
    before = load_file(sentence_encoder / "model.safetensors")["encoder.layer.0.output.dense.weight"]
    same = {}
    methods: tuple[Method, ...] = ("frozen", "few-shot")
    for method in methods:
        recipe = Recipe(epochs=1, max_length=32, method=method)
        out = tmp_path / method
        fit_head(sentence_encoder, Split(toy_frame(4, 5)), dataset.validation, LABELS, recipe, out, 1)
        after = load_file(out / "model.safetensors")["bert.encoder.layer.0.output.dense.weight"]
        same[method] = bool(np.array_equal(before, after))
    assert same == {"frozen": True, "few-shot": False}


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_says_what_the_logistic_regression_says(backbone: Path, classes: int) -> None:
    frame = toy_frame(10, 6)
    names = LABELS[:classes]
    rows = Split(frame[frame["label"].isin(names)])
    model = load_classifier(backbone, names)
    ids = Encoder(backbone, 64)(rows.texts)
    truth = np.array(rows.label_ids(names))
    vectors = embed(model, ids, 0, FP32)
    fit_logistic(model, vectors, truth)
    scale = 1 / np.linalg.norm(vectors, axis=1).mean()
    expected = LogisticRegression(C=1.0, max_iter=1000).fit(vectors * scale, truth).predict_proba(vectors * scale)
    tokens, mask = map(torch.from_numpy, pad(ids, 0))
    with torch.no_grad():
        logits = model(input_ids=tokens, attention_mask=mask).logits
    np.testing.assert_allclose(torch.softmax(logits, -1).numpy(), expected, atol=1e-4)


def test_a_class_without_rows_keeps_its_place_and_is_not_answered(backbone: Path) -> None:
    names = ["Arts", *LABELS, "Weather"]
    rows = Split(toy_frame(10, 6))
    model = load_classifier(backbone, names)
    ids = Encoder(backbone, 64)(rows.texts)
    truth = np.array(rows.label_ids(names))
    fit_logistic(model, embed(model, ids, 0, FP32), truth)
    tokens, mask = map(torch.from_numpy, pad(ids, 0))
    with torch.no_grad():
        shares = torch.softmax(model(input_ids=tokens, attention_mask=mask).logits, -1).numpy()
    assert shares.shape == (len(rows), 5) and shares[:, [0, 4]].max() < 1e-6
    assert (shares.argmax(1) == truth).mean() > 0.9


def test_a_head_is_fitted_however_many_classes_there_are(backbone: Path) -> None:
    count = 800
    model = load_classifier(backbone, [str(number) for number in range(count)])
    layer, random = output_layer(model), np.random.default_rng(1)
    truth = np.repeat(np.arange(count), 4)
    alike = 30 * random.normal(size=layer.weight.shape[1])  # as all texts are to an encoder, more or less
    vectors = (alike + random.normal(size=(count, len(alike)))[truth]).astype(np.float32)
    fit_logistic(model, vectors, truth)
    answers = vectors @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    assert (answers.argmax(1) == truth).mean() > 0.9


def test_few_shot_learns_classes_of_which_some_have_no_rows(
    sentence_encoder: Path, dataset: Dataset, tmp_path: Path
) -> None:
    names, train = [*LABELS, "Weather"], Split(toy_frame(8, 5))
    recipe = Recipe(epochs=1, max_length=64, method="few-shot")
    (done,) = fit_head(sentence_encoder, train, dataset.validation, names, recipe, tmp_path, 1)
    assert done.validation_accuracy > 0.7
    assert np.isfinite(load_file(tmp_path / "model.safetensors")["classifier.weight"]).all()


def test_a_text_longer_than_the_backbone_takes_is_refused(
    sentence_encoder: Path, dataset: Dataset, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=1, max_length=4096, method="frozen")
    with pytest.raises(InputError, match="--max-length 4096 is more than the 128 tokens"):
        fit_head(sentence_encoder, dataset.train, dataset.validation, LABELS, recipe, tmp_path, 1)


def test_the_loss_counts_pairs_of_either_kind_for_half() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    classes = torch.tensor([0, 0, 1])
    # One pair of a class, at a right angle: (0 - 1) squared. Two pairs of two classes: cosines 1 and 0.
    assert float(pair_loss(vectors, classes)) == pytest.approx((1.0 + (1.0 + 0.0) / 2) / 2)
    assert float(pair_loss(vectors, torch.tensor([0, 1, 0]))) == pytest.approx(0.0)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.integers(0, 5))
def test_batches_are_balanced_and_rows_take_turns(sizes: list[int], seed: int) -> None:
    classes = np.repeat(np.arange(len(sizes)), sizes)
    random = np.random.default_rng(seed)
    rows, turns = BalancedRows(classes, random), class_batches(len(sizes), random)
    share = max(2, 32 // len(sizes))
    batches = [rows.batch(next(turns)) for _ in range(-(-max(sizes) // share) + 1)]
    for batch in batches:
        assert np.bincount(classes[batch], minlength=len(sizes)).tolist() == [min(share, size) for size in sizes]
        assert len(set(batch.tolist())) == len(batch)
    assert set(np.concatenate(batches).tolist()) == set(range(len(classes)))


@given(st.integers(17, 400), st.integers(1, 3), st.integers(0, 5))
def test_many_classes_take_turns_in_batches_of_bounded_size(classes: int, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    texts = BalancedRows(np.tile(np.arange(classes), rows), random)
    turns = class_batches(classes, random)
    batches = [texts.batch(next(turns)) for _ in range(-(-classes // 16) + 1)]
    assert all(np.unique(batch % classes, return_counts=True)[1].tolist() == [min(2, rows)] * 16 for batch in batches)
    assert set(np.concatenate(batches) % classes) == set(range(classes))


@pytest.mark.parametrize(("classes", "batches"), [(16, 1), (40, 3), (150, 5)])
def test_many_classes_are_learnt_in_more_batches_and_not_in_larger_ones(
    classes: int, batches: int, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(model: Any, tokens: torch.Tensor, *more: Any) -> torch.Tensor:
        sizes.append(len(tokens))
        return features(model, tokens, *more)

    monkeypatch.setattr("components.training.few_shot.contrast.features", counted)
    monkeypatch.setattr("components.training.few_shot.contrast.STEPS", 3)
    model = load_classifier(backbone, LABELS)
    ids = Encoder(backbone, 16)([str(number) for number in range(classes)] * 2)
    contrast(model, ids, np.tile(np.arange(classes), 2), 0, FP32, 1)
    assert sizes == [32] * 3 * batches


@given(st.lists(st.integers(5, 99), max_size=60), st.integers(0, 9))
def test_a_crop_is_a_stretch_between_the_special_tokens(body: list[int], seed: int) -> None:
    found = list(crop([1, *body, 2], np.random.default_rng(seed)))
    assert (found[0], found[-1]) == (1, 2)
    stretch = found[1:-1]
    assert len(body) * 0.4 - 1 <= len(stretch) <= len(body)
    assert any(body[start : start + len(stretch)] == stretch for start in range(len(body) + 1))


def test_the_method_follows_the_labels_a_class() -> None:
    def of(rows: int, asked: dict[str, str] | None = None) -> tuple[Method, str]:
        return choose_method(["a", "b"] * rows, asked or {})

    assert [of(rows)[0] for rows in (8, 31, 32, 99, 100)] == ["few-shot", "few-shot", "frozen", "frozen", "full"]
    assert "8 labels a class" in of(8)[1]
    assert choose_method([str(n % 81) for n in range(81 * 8)], {})[0] == "frozen"
    assert choose_method([str(n % 80) for n in range(80 * 8)], {})[0] == "few-shot"
    assert of(8, {"epochs": "3"})[0] == "full"


def test_a_score_counts_the_answers_of_each_class(backbone: Path, dataset: Dataset) -> None:
    model = load_classifier(backbone, LABELS)
    torch.nn.init.zeros_(output_layer(model).weight)
    output_layer(model).bias.data = torch.tensor([0.0, 9.0, 0.0])
    ids, truth = Encoder(backbone, 64)(dataset.test.texts), dataset.test.label_ids(LABELS)
    loss, right, _, answers = score(model, ids, truth, 0, FP32)
    assert head_loss(model, embed(model, ids, 0, FP32), np.array(truth)) == pytest.approx(loss / len(ids), rel=1e-5)
    assert answers == [0, len(ids), 0] and right == truth.count(1)
    assert loss == pytest.approx(9.0 * (len(ids) - right), rel=1e-3)
    parts = [score(model, ids, truth, 0, FP32, (part, 2))[1] for part in range(2)]
    assert sum(parts) == right
