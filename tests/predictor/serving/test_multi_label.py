"""A multi-label bundle, served: asked over every protocol, by `pigeonhole predict`, and what is refused."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pandas as pd
import pytest

from components.monitoring.log.reading import read_feedback, read_predictions
from pipelines.running.explain_texts import explain_texts
from pipelines.running.label_file import predict_file
from pipelines.running.label_texts import predict_texts
from predictor.client import Answers, ask
from predictor.client import Server as Asked
from predictor.errors import InputError
from predictor.label_sets import parted
from predictor.model.bundle import Bundle
from predictor.model.classifier import Classifier
from predictor.serving.wire.openapi import document
from tests.multi_label import LABELS, NAMES
from tests.predictor.conftest import Server, serving

TEXTS = [
    "goal cup striker league match",
    "goal cup bank shares profit market",
    "1 2 3 4 5 6",
    "treaty rebels vote army",
]


@pytest.fixture(scope="module")
def running(sets_draft: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    options = ("--log-url", str(folder / "predictions"))
    with serving(sets_draft, folder / "log", *options, model="tags", program="tests.fakes.jobs") as server:
        yield server


def _asked(running: Server, protocol: str) -> Asked:
    return Asked.at(protocol, f"http://{running.grpc}" if protocol == "grpc" else running.http, "tags")


def test_the_labels_are_the_classifiers_over_every_protocol(running: Server, sets_draft: Path) -> None:
    ours = Classifier(sets_draft).classify(TEXTS)
    assert len({answer.label for answer in ours}) > 2
    for protocol in ("v1", "v2", "grpc"):
        got = Answers.joined(ask(_asked(running, protocol), TEXTS))
        assert got.labels == [answer.label for answer in ours], protocol
        assert got.confidences == [answer.confidence for answer in ours], protocol
        alone = [Answers.joined(ask(_asked(running, protocol), [text])) for text in TEXTS]
        assert [one.labels[0] for one in alone] == got.labels, protocol
        assert [one.confidences[0] for one in alone] == got.confidences, protocol
    for text, answer in zip(TEXTS, ours, strict=True):
        body = httpx.post(f"{running.http}/v1/tag", json={"text": text}).json()
        assert body["confidence"] == dict(zip(LABELS, answer.probabilities, strict=True))
        assert sorted(body["tags"]) == [label for label in answer.label.split("|") if label]
        assert body["tags"] == sorted(body["tags"], key=lambda label: -body["confidence"][label])


def test_the_page_is_the_servers(running: Server, sets_draft: Path) -> None:
    version = Bundle.open(sets_draft).digest[:12]
    page = httpx.get(f"{running.http}/openapi.json").json()
    assert page == document("tags", version, LABELS, names=NAMES, multi_label=True)
    outputs = httpx.get(f"{running.http}/v2/models/tags").json()["outputs"]
    assert [output["name"] for output in outputs][:3] == ["labels", "confidence", "probabilities"]


def test_predict_writes_the_labels_of_texts_and_files(running: Server, sets_draft: Path, tmp_path: Path) -> None:
    ours = [answer.label for answer in Classifier(sets_draft).classify(TEXTS)]
    shown = predict_texts(_asked(running, "v2"), TEXTS)
    assert [prediction["label"] for prediction in shown["predictions"]] == ours
    source, target = tmp_path / "in.csv", tmp_path / "out.jsonl"
    pd.DataFrame({"text": [*TEXTS, " "]}).to_csv(source, index=False)
    done = predict_file(_asked(running, "v1"), source, target)
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["predicted_label"] for row in rows] == [*ours, None] and done["unlabelled"] == 1


def test_a_job_gives_the_same_answers(running: Server) -> None:
    posted = httpx.post(f"{running.http}/v1/tag/batch", json={"texts": [*TEXTS, " "], "async": True})
    assert posted.status_code == 202
    job = posted.json()["request_id"]
    for _ in range(600):
        if httpx.get(f"{running.http}/v1/tag/status/{job}").json()["status"] == "done":
            break
        time.sleep(0.1)
    lines = httpx.get(f"{running.http}/v1/tag/results/{job}").text.splitlines()
    batch = httpx.post(f"{running.http}/v1/tag/batch", json={"texts": [*TEXTS, " "]}).json()["results"]
    for line, answer in zip(map(json.loads, lines), batch, strict=True):
        assert ("error" in line) == ("error" in answer)
        assert [line.get(name) for name in ("tags", "confidence")] == [
            answer.get(name) for name in ("tags", "confidence")
        ]


def test_feedback_and_predictions_are_logged_with_all_labels(running: Server) -> None:
    url, headers = f"{running.http}/v1/models/tags:predict", {"x-request-id": "f1"}
    (answer,) = httpx.post(url, json={"instances": [TEXTS[1]]}, headers=headers).json()["predictions"]
    said = {"feedback": [{"id": "f1", "labels": ["Sports", "Business"]}]}
    got = httpx.post(f"{running.http}/v1/models/tags:feedback", json=said)
    assert got.json() == {"accepted": 1}
    wrong = httpx.post(f"{running.http}/v1/models/tags:feedback", json={"feedback": [{"id": "f1", "label": "Sports"}]})
    assert wrong.status_code == 400 and "send id, labels" in wrong.json()["error"]
    url = str(running.log.parent / "predictions")
    for _ in range(600):
        notes = list(read_feedback(url, "tags"))
        records = [record for record in read_predictions(url, "tags") if record.id == "f1"]
        if notes and records:
            break
        time.sleep(0.1)
    assert [note.label for note in notes] == ["Business|Sports"]
    assert parted(records[0].label) == sorted(answer["labels"]) and set(records[0].probabilities or ()) == set(LABELS)


def test_what_needs_one_label_a_text_is_refused_in_a_sentence(
    running: Server, sets_draft: Path, tmp_path: Path
) -> None:
    body = {"instances": [TEXTS[0]], "parameters": {"coverage": 0.9}}
    got = httpx.post(f"{running.http}/v1/models/tags:predict", json=body)
    assert got.status_code == 400 and "may have several labels" in got.json()["error"]
    got = httpx.post(f"{running.http}/v1/models/tags:explain", json={"instances": [TEXTS[0]]})
    assert got.status_code == 400 and "are not explained" in got.json()["error"]
    with pytest.raises(InputError, match="are not explained"):
        explain_texts(_asked(running, "v1"), TEXTS[:1])
    with pytest.raises(AssertionError, match=r"ended with 2: .*--ui shows one label a text"):  # noqa: SIM117
        with serving(sets_draft, tmp_path / "log", "--ui"):
            pass
