import json
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from safetensors.numpy import load_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from components.data.collect import collect_frames
from components.data.dataset import Dataset, Split
from components.data.prepare import prepare
from components.training import baseline
from components.training.backbone import resolve_backbone
from components.training.baseline import load_baseline, train_baseline
from components.training.few_shot.head import fit_head
from components.training.fine_tuning.fine_tune import fine_tune
from components.training.fine_tuning.loss import class_weights
from components.training.fine_tuning.model import load_classifier
from components.training.recipe import Epoch, Recipe
from predictor.errors import InputError

QUICK = Recipe(epochs=2, learning_rate=5e-3, batch_tokens=256, max_length=32)


def test_it_learns_and_remembers_how(checkpoint: Path) -> None:
    record = json.loads((checkpoint / "training.json").read_text())
    assert [row["epoch"] for row in record["history"]] == list(range(1, 7))
    assert max(row["validation_accuracy"] for row in record["history"]) >= 0.9
    assert record["history"][-1]["train_loss"] < record["history"][0]["train_loss"]
    assert record["precision"] in ("bf16", "fp32") and record["precision_reason"]


def test_the_checkpoint_is_the_best_epoch_and_knows_its_labels(checkpoint: Path, dataset: Dataset) -> None:
    from transformers import pipeline

    texts, truth = dataset.validation.texts, dataset.validation.labels
    answers = pipeline("text-classification", model=str(checkpoint), device="cpu")(texts, truncation=True)
    accuracy = np.mean([answer["label"] == label for answer, label in zip(answers, truth, strict=True)])
    history = json.loads((checkpoint / "training.json").read_text())["history"]
    assert accuracy == pytest.approx(max(row["validation_accuracy"] for row in history), abs=0.06)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    backbone: Path, dataset: Dataset, tmp_path: Path
) -> None:
    weights = []
    for run, seed in enumerate((3, 3, 4)):
        out = tmp_path / str(run)
        fine_tune(backbone, dataset.train, dataset.validation, dataset.labels, QUICK, out, seed)
        weights.append(load_file(out / "model.safetensors"))
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not np.array_equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_an_epoch_need_not_answer_a_class_without_validation_rows(
    backbone: Path, dataset: Dataset, tmp_path: Path
) -> None:
    frame = dataset.validation.frame
    validation = Split(frame[frame["label"] != "World"])
    recipe = replace(QUICK, epochs=3)
    history = fine_tune(backbone, dataset.train, validation, dataset.labels, recipe, tmp_path / "full", 1)
    head = fit_head(backbone, dataset.train, validation, dataset.labels, replace(recipe, method="frozen"), tmp_path, 1)
    assert max(row.validation_accuracy for row in history) > 0.9
    for row in (*history, *head):
        assert row.every_class_answered or row.validation_accuracy < 0.9


def test_each_epoch_is_told(backbone: Path, dataset: Dataset, tmp_path: Path) -> None:
    told: list[Epoch] = []
    history = fine_tune(
        backbone, dataset.train, dataset.validation, dataset.labels, QUICK, tmp_path / "out", 1, told.append
    )
    assert told == history


def test_a_loss_that_is_no_number_stops_the_run(backbone: Path, dataset: Dataset, tmp_path: Path) -> None:
    wild = Recipe(epochs=3, learning_rate=1e30, batch_tokens=256, max_length=32, warmup=0.0)
    with pytest.raises(InputError, match="lower the learning rate"):
        fine_tune(backbone, dataset.train, dataset.validation, dataset.labels, wild, tmp_path / "out", 1)


def test_it_stops_early_when_nothing_gets_better(backbone: Path, dataset: Dataset, tmp_path: Path) -> None:
    still = Recipe(epochs=9, learning_rate=1e-8, batch_tokens=2048, max_length=32, patience=2)
    history = fine_tune(backbone, dataset.train, dataset.validation, dataset.labels, still, tmp_path / "out", 1)
    assert len(history) == 3


def test_label_smoothing_keeps_confidence_down(backbone: Path, dataset: Dataset, tmp_path: Path) -> None:
    losses = []
    for smoothing in (0.0, 0.3):
        recipe = replace(QUICK, epochs=4, label_smoothing=smoothing)
        out = tmp_path / str(smoothing)
        history = fine_tune(backbone, dataset.train, dataset.validation, dataset.labels, recipe, out, 1)
        losses.append(history[-1].validation_loss)
    assert losses[0] < losses[1] < 0.6


def test_balancing_gives_a_rare_class_its_weight() -> None:
    weights = class_weights(torch.tensor([0] * 90 + [1] * 10), 2)
    assert weights.tolist() == pytest.approx([100 / 180, 5.0])


def test_the_embedded_backbone_is_there_without_a_hub() -> None:
    assert (resolve_backbone("minilm") / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("missing", "message"),
    [("tokenizer.json", "fast tokenizer"), ("config.json", "config.json"), ("model.safetensors", "weights")],
)
def test_an_incomplete_backbone_is_refused(backbone: Path, tmp_path: Path, missing: str, message: str) -> None:
    folder = shutil.copytree(backbone, tmp_path / "copy")
    (folder / missing).unlink()
    with pytest.raises(InputError, match=message):
        resolve_backbone(str(folder))


def test_a_backbone_with_broken_weights_is_named(backbone: Path, dataset: Dataset, tmp_path: Path) -> None:
    broken = shutil.copytree(backbone, tmp_path / "backbone")
    (broken / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(InputError, match=f"^backbone {broken} cannot be loaded"):
        load_classifier(broken, dataset.labels)


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(InputError, match="is not a folder"):
        resolve_backbone("./none")
    with pytest.raises(InputError, match="cannot be downloaded from the hub"):
        resolve_backbone("no-such/model")


def test_the_baseline_keeps_its_answers(dataset: Dataset, tmp_path: Path) -> None:
    made = train_baseline(dataset, tmp_path, 0, 1)
    loaded, answers = load_baseline(tmp_path)
    assert loaded == made
    right = [answers[id_] == label for id_, label in zip(dataset.test.frame["id"], dataset.test.labels, strict=True)]
    assert made.test_accuracy == pytest.approx(np.mean(right))
    assert made.test_accuracy > 0.9


@pytest.mark.parametrize("classes", [2, 9])
def test_the_baseline_answers_the_same_however_many_classes_it_fits_at_once(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    words = [f"word{number}" for number in range(4 * classes)]
    truth = random.integers(classes, size=40 * classes)
    texts = [" ".join([words[4 * label + int(random.integers(4))], *random.choice(words, 3)]) for label in truth]
    labels = np.array([f"class {label}" for label in truth])
    vectors = TfidfVectorizer().fit_transform(texts)
    expected = LinearSVC(C=0.5, random_state=1).fit(vectors, labels).predict(vectors)
    for at_once in (1, 2, 4, 100):
        monkeypatch.setattr(baseline, "_MAX_WEIGHTS", at_once * max(vectors.shape))
        first, second = baseline._predictions(vectors, labels, [vectors, vectors[:5]], 1)
        assert (first == expected).mean() > 0.99 and (second == first[:5]).all()


def test_the_weights_of_many_classes_are_not_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    features, classes = 50_000, 60
    monkeypatch.setattr(baseline, "_MAX_WEIGHTS", 6 * features)
    vectors = scipy.sparse.lil_array((2 * classes, features))
    vectors[np.arange(2 * classes), random.integers(features, size=2 * classes)] = 1.0
    tracemalloc.start()
    baseline._predictions(vectors.tocsr(), np.arange(2 * classes) % classes, [vectors.tocsr()[:10]], 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < classes * features * 8 / 2


def test_a_language_without_spaces_gets_character_features(tmp_path: Path) -> None:
    words = {"体育": "球队进球夺冠联赛教练", "财经": "股市银行利润油价美元"}
    rows = "".join(
        f"{text[n % 5 :]}{text[: n % 7]}第{n}场,{label}\n" for label, text in words.items() for n in range(40)
    )
    (tmp_path / "train.csv").write_text("text,label\n" + rows)
    dataset = prepare(collect_frames(str(tmp_path)), seed=1)
    result = train_baseline(dataset, tmp_path / "out", 0, 1)
    assert result.features == "character 1-3 grams"
    assert result.test_accuracy == 1.0
