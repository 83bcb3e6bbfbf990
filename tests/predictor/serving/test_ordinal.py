"""A bundle whose labels have an order, asked over every protocol and by `pigeonhole predict`."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pandas as pd
import pytest

from pipelines.running.label_file import predict_file
from pipelines.running.label_texts import predict_texts
from predictor.client import Answers, ask
from predictor.client import Server as Asked
from predictor.model.bundle import Bundle, seal
from predictor.model.classifier import Classifier
from tests.predictor.conftest import Server, serving

TEXTS = ["goal cup striker", "profit bank shares", "treaty rebels vote", "球 zzz", "cup league coach " * 8]


@pytest.fixture(scope="module")
def ordinal_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ordinal") / "bundle"
    shutil.copytree(bundle, folder)
    seal(folder, Bundle.open(folder).spec.model_copy(update={"ordinal": True}))
    return folder


@pytest.fixture(scope="module")
def running(ordinal_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(ordinal_bundle, tmp_path_factory.mktemp("server") / "log") as server:
        yield server


def _asked(running: Server, protocol: str) -> Asked:
    return Asked.at(protocol, f"http://{running.grpc}" if protocol == "grpc" else running.http, "toy")


def test_the_score_is_the_classifiers_over_every_protocol(running: Server, ordinal_bundle: Path) -> None:
    ours = Classifier(ordinal_bundle).classify(TEXTS)
    assert len({answer.score for answer in ours}) > 2
    for protocol in ("v1", "v2", "grpc"):
        got = Answers.joined(ask(_asked(running, protocol), TEXTS))
        assert got.scores == [answer.score for answer in ours], protocol
        alone = [Answers.joined(ask(_asked(running, protocol), [text])).scores for text in TEXTS]
        assert alone == [[score] for score in got.scores], protocol


def test_predict_adds_the_score_to_texts_and_files(running: Server, ordinal_bundle: Path, tmp_path: Path) -> None:
    scores = [answer.score for answer in Classifier(ordinal_bundle).classify(TEXTS)]
    shown = predict_texts(_asked(running, "v2"), TEXTS)
    assert [prediction["score"] for prediction in shown["predictions"]] == scores
    source, target = tmp_path / "in.csv", tmp_path / "out.jsonl"
    pd.DataFrame({"text": [TEXTS[0], " ", TEXTS[1]]}).to_csv(source, index=False)
    for given, made in ((source, target), (target, tmp_path / "again.jsonl")):  # the second replaces the first's
        predict_file(_asked(running, "v1"), given, made)
        rows = [json.loads(line) for line in made.read_text().splitlines()]
        assert [list(row) for row in rows] == [["text", "predicted_label", "confidence", "predicted_score"]] * 3
        assert [row["predicted_score"] for row in rows] == [scores[0], None, scores[1]]


def test_the_server_says_that_it_has_scores(running: Server) -> None:
    told = httpx.get(f"{running.http}/v2/models/toy").json()
    assert "score" in [output["name"] for output in told["outputs"]]
    page = httpx.get(f"{running.http}/openapi.json").json()
    assert "score" in json.dumps(page["components"]["schemas"]["V1Answer"])
