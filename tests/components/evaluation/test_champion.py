import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from numpy.typing import NDArray

from components.data.dataset import Dataset
from components.evaluation.champion import ChampionBundle, fetch_champion
from components.evaluation.evaluate import evaluate
from components.evaluation.predictions import NO_CLASS, predict
from components.training.baseline import Baseline
from predictor.model.bundle import Bundle, seal
from predictor.model.classifier import Classifier
from tests.fakes.storage import object_storage

BASELINE = Baseline("words", 1, 0.5, 0.5)


@pytest.fixture
def client(own_tracking: str) -> MlflowClient:
    client = MlflowClient(own_tracking)
    client.create_registered_model("news")
    return client


def registered(client: MlflowClient, uri: str, digest: str) -> None:
    version = client.create_model_version("news", uri, tags={"bundle_uri": uri, "bundle_digest": digest})
    client.set_registered_model_alias("news", "champion", version.version)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with object_storage(monkeypatch) as bucket:
        yield bucket


def test_without_a_champion_there_is_none(client: MlflowClient, tmp_path: Path) -> None:
    assert fetch_champion(client, "news", tmp_path) is None
    assert fetch_champion(client, "sport", tmp_path) is None


def test_the_champions_bundle_is_fetched_and_is_the_one_that_was_registered(
    client: MlflowClient, bundle: Path, bucket: str, tmp_path: Path
) -> None:
    from components.registry.register import store

    opened = Bundle.open(bundle)
    registered(client, store(opened, bucket), opened.digest)
    found = fetch_champion(client, "news", tmp_path / "fetched")
    assert found and found.path and Bundle.open(found.path).digest == found.digest == opened.digest
    assert (found.version, found.missing) == ("1", "")
    registered(client, str(bundle), "0" * 64)
    other = fetch_champion(client, "news", tmp_path / "again")
    assert other and other.path is None and "holds another bundle" in other.missing


def test_a_champion_whose_bundle_is_gone_is_said(client: MlflowClient, bucket: str, tmp_path: Path) -> None:
    registered(client, f"{bucket}/gone", "0" * 64)
    found = fetch_champion(client, "news", tmp_path)
    assert found and found.path is None and f"{bucket}/gone" in found.missing


def answers_of(dataset: Dataset) -> dict[str, str]:
    return dict(zip(dataset.test.frame["id"], dataset.test.labels, strict=True))


def test_champion_and_candidate_answer_the_same_rows(bundle: Path, dataset: Dataset) -> None:
    champion = ChampionBundle("4", Bundle.open(bundle).digest, bundle)
    result, table = evaluate(bundle, dataset, BASELINE, answers_of(dataset), champion)
    assert result.champion and result.champion.same and result.champion.score == result.score
    assert result.champion.only_candidate == result.champion.only_champion == 0
    assert list(table["champion_answer"]) == list(table["answer"]) and len(table) == len(dataset.test)
    right = (table["answer"] == table["label"]).mean()
    assert right == result.score.accuracy and (table["truth_probability"] <= table["confidence"]).all()
    gone, table = evaluate(bundle, dataset, BASELINE, answers_of(dataset), ChampionBundle("4", "", None, "it is gone"))
    assert gone.champion and gone.champion.score is None and gone.champion.missing == "it is gone"
    assert "champion_answer" not in table


def test_a_champion_that_lacks_a_class_is_wrong_on_its_rows(bundle: Path, dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "old")
    spec = Bundle.open(bundle).spec
    renamed = ["Weather" if label == "World" else label for label in spec.labels]
    seal(tmp_path / "old", spec.model_copy(update={"labels": renamed}))
    result, table = evaluate(bundle, dataset, BASELINE, answers_of(dataset), ChampionBundle("1", "", tmp_path / "old"))
    assert result.champion and result.champion.unknown == ["World"] and result.champion.score
    world = table["label"] == "World"
    assert (table["champion_truth_probability"][world] == 0).all()
    assert table["champion_answer"][world].isna().mean() > 0.5
    assert result.champion.only_candidate >= 0.9 * world.sum()
    assert result.champion.score.accuracy == pytest.approx((table["champion_answer"] == table["label"]).mean())


class _Odd(Classifier):
    def probabilities(self, texts, done=None):  # type: ignore[no-untyped-def]
        rows = super().probabilities(texts, done)
        rows[0] = np.nan
        return rows


def test_probabilities_that_are_no_numbers_are_wrong_and_counted(
    bundle: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = _Odd(bundle)
    truth: NDArray[np.int64] = np.array(dataset.test.label_ids(classifier.labels))
    found = predict(classifier, dataset.test.texts, truth, classifier.labels, "odd")
    assert found.answers[0] == NO_CLASS and not found.numbers[0] and found.numbers[1:].all()
    assert found.confidence[0] == found.truth_probability[0] == 0
    monkeypatch.setattr("components.evaluation.evaluate.Classifier", _Odd)
    result, _ = evaluate(bundle, dataset, BASELINE, answers_of(dataset))
    assert result.score.not_numbers == 1 and np.isfinite(result.score.log_loss)
