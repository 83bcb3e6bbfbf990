"""Shared parts: a tiny backbone that trains in seconds, data, and a bundle made by the real steps."""

import os
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import settings

from predictor.naming import AnswerNames

# No test asserts on a clock.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# The models here are so small that two threads wait for each other longer than they compute.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parents[1]
"""The checkout."""

_WORDS = {
    "Sports": "goal match striker cup league coach penalty team season keeper",
    "Business": "shares profit bank market price oil merger bonds sales dollar",
    "World": "minister treaty rebels election parliament border army vote embassy truce",
}


NAMES = AnswerNames(verb="sort", field="desk")
"""What the plain REST interface of the bundle below calls its answers."""

SPORTS, BUSINESS = "goal match cup league season", "shares bank market price oil"
WORLD = "treaty rebels vote army truce"
"""Texts that the toy model is sure of on every machine: as long as those it learned from. Of single words it is not."""


def toy_frame(rows_a_class: int, seed: int) -> pd.DataFrame:
    """Rows that a few words tell apart, so that the tiniest model can learn them."""
    import numpy as np

    random = np.random.default_rng(seed)
    rows = []
    for label, words in _WORDS.items():
        pool = words.split()
        for _ in range(rows_a_class):
            length = int(random.integers(4, 30))
            rows.append({"text": " ".join(random.choice(pool, length)), "label": label})
    frame = pd.DataFrame(rows).sample(frac=1.0, random_state=seed).reset_index(drop=True)
    frame["text"] += [f" {n}" for n in range(len(frame))]
    return frame


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse two tests of one name: pytest-xdist would run one of them and not say so."""
    twice = [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]
    if twice:
        raise pytest.UsageError(f"several tests are called {', '.join(twice)}: give each a name of its own")


@pytest.fixture
def own_tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an MLflow database for one test, whatever the environment says."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    toy_frame(130, 1).to_csv(folder / "train.csv", index=False)  # enough of each class to be fine-tuned
    toy_frame(20, 2).to_csv(folder / "test.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two narrow layers with a word-piece tokenizer, both trained on the toy words."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("backbone")
    trained = BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator([*_WORDS.values(), *map(str, range(200))], vocab_size=400, show_progress=False)
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    # A training finds the same pieces each time and numbers them by chance, and with them the rows of the weights.
    pieces = sorted(trained.get_vocab().keys() - names.values())
    words = BertWordPieceTokenizer({piece: n for n, piece in enumerate([*names.values(), *pieces])}, lowercase=True)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words._tokenizer, **{f"{key}_token": value for key, value in names.items()}
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return _pretrained(folder, tmp_path_factory.mktemp("pretrained"))


def _pretrained(random: Path, out: Path) -> Path:
    """Let the encoder see the words in a steep first training, so that a gentle recipe can fine-tune it."""
    from transformers import BertModel

    from components.data.dataset import Split
    from components.training.fine_tuning.fine_tune import fine_tune
    from components.training.recipe import Recipe

    frame = toy_frame(60, 3)
    recipe = Recipe(epochs=5, learning_rate=5e-3, batch_tokens=256, max_length=64)
    fine_tune(random, Split(frame), Split(toy_frame(5, 4)), sorted(_WORDS), recipe, out, seed=0)
    BertModel.from_pretrained(out, add_pooling_layer=False).save_pretrained(out)
    return out


@pytest.fixture(scope="session")
def dataset(data_folder: Path):  # type: ignore[no-untyped-def]
    from components.data.collect import collect_frames
    from components.data.prepare import prepare

    return prepare(collect_frames(str(data_folder)), seed=7)


@pytest.fixture(scope="session")
def checkpoint(backbone: Path, dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    from components.training.fine_tuning.fine_tune import fine_tune
    from components.training.recipe import Recipe

    folder = tmp_path_factory.mktemp("checkpoint")
    recipe = Recipe(epochs=6, learning_rate=5e-3, batch_tokens=256, max_length=64)
    fine_tune(backbone, dataset.train, dataset.validation, dataset.labels, recipe, folder, seed=7)
    return folder


@pytest.fixture(scope="session")
def bundle(checkpoint: Path, dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    """A finished bundle, made and tested by the steps' own functions."""
    from components.evaluation.evaluate import evaluate, finish_bundle
    from components.training.baseline import load_baseline, train_baseline
    from components.training.export.export import export

    work = tmp_path_factory.mktemp("bundle")
    train_baseline(dataset, work / "baseline", 0, 7)
    result, answers = load_baseline(work / "baseline")
    export(checkpoint, dataset, dataset.train, result.test_accuracy, "toy", work / "draft", NAMES)
    evaluation, _ = evaluate(work / "draft", dataset, result, answers)
    finish_bundle(work / "draft", evaluation, dataset, work / "finished")
    return work / "finished"


@pytest.fixture(scope="session")
def sets_dataset():  # type: ignore[no-untyped-def]
    """Multi-label data."""
    from tests.multi_label import toy_dataset

    return toy_dataset()


@pytest.fixture(scope="session")
def sets_checkpoint(backbone: Path, sets_dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    from tests.multi_label import toy_checkpoint

    return toy_checkpoint(backbone, sets_dataset, tmp_path_factory.mktemp("sets-checkpoint"))


@pytest.fixture(scope="session")
def sets_draft(sets_checkpoint: Path, sets_dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    """A bundle of a multi-label model, before its test."""
    from tests.multi_label import toy_draft

    return toy_draft(sets_checkpoint, sets_dataset, tmp_path_factory.mktemp("sets") / "draft")


@pytest.fixture(scope="session")
def sets_evaluated(sets_draft: Path, sets_dataset, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """The finished bundle of a multi-label model, and the evaluation that finished it."""
    from components.evaluation.evaluate import evaluate, finish_bundle
    from components.training.baseline import load_baseline, train_baseline

    work = tmp_path_factory.mktemp("sets-evaluated")
    train_baseline(sets_dataset, work / "baseline", 0, 7)
    tested = evaluate(sets_draft, sets_dataset, *load_baseline(work / "baseline"))
    finish_bundle(sets_draft, tested.evaluation, sets_dataset, work / "finished")
    return work / "finished", tested


@pytest.fixture(scope="session")
def cascade_bundle(bundle: Path, dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    """The bundle with a linear model that is sure enough of about half of the test rows.

    The toy data has too few rows for `export` to set a threshold.
    """
    import shutil

    import numpy as np

    from components.training.export.cascade import train_stage
    from predictor.model.bundle import Bundle, CascadeSpec, seal
    from predictor.model.calibration import softmax
    from predictor.model.classifier import Classifier
    from predictor.model.reference import reference_of

    folder = tmp_path_factory.mktemp("cascade") / "bundle"
    shutil.copytree(bundle, folder)
    spec, encoder = Bundle.open(folder).spec, Classifier(folder).encoder
    stage = train_stage(encoder.clean(dataset.train.texts), np.array(dataset.train.label_ids(spec.labels)), 3)
    stage.save(folder)
    threshold = float(np.median(softmax(stage(encoder.clean(dataset.test.texts)), 1.0).max(axis=1)))
    cascade = CascadeSpec(
        unit=stage.unit, temperature=1.0, threshold=threshold, rows=60, share=0.5, accuracy=1.0,
        accuracy_transformer=1.0, accuracy_linear=1.0, most_loss=0.04, calibration_error=0.0, reference=spec.reference,
    )  # fmt: skip
    spec = spec.model_copy(update={"cascade": cascade, "cascade_reason": "a cascade of a test"})
    seal(folder, spec)
    texts, pair = dataset.validation.texts, Classifier(folder)
    left = [text for text, gone in zip(texts, pair.cascade(encoder.clean(texts))[1], strict=True) if not gone]  # type: ignore[misc]
    reference = reference_of(pair.probabilities(texts), [len(ids) for ids in encoder(left)], spec.labels)
    seal(folder, spec.model_copy(update={"cascade": cascade.model_copy(update={"reference": reference})}))
    return folder
