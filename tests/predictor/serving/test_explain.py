"""Explanations over a socket: of the answer that is served, by whoever gave it, and at nobody else's cost."""

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from predictor.errors import Busy, NotInstalled
from predictor.model.bundle import Bundle
from predictor.model.classifier import Classifier
from predictor.serving.explain import explainer
from predictor.serving.explain.explainer import Explainer
from predictor.serving.wire.openapi import document
from tests.conftest import SPORTS
from tests.predictor.conftest import Server, serving
from tests.predictor.serving.asking import TEXTS, metric
from tests.predictor.serving.wire.test_bad_requests import EMPTY, V1_BAD

PATIENT = ("--timeout", "300")
"""Loading PyTorch takes long where other tests run beside it."""


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(bundle, tmp_path_factory.mktemp("server") / "log", *PATIENT) as running:
        yield running


@pytest.fixture(scope="module")
def cascade_server(cascade_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(cascade_bundle, tmp_path_factory.mktemp("server") / "log", *PATIENT) as running:
        yield running


def asked(server: Server, text: str) -> dict[str, Any]:
    got = httpx.post(f"{server.http}/v1/models/toy:explain", json={"instances": [text]}, timeout=300)
    body = got.raise_for_status().json()
    page = document("toy", body["model_version"], ["Business", "Sports", "World"])
    schema = {"$ref": "#/components/schemas/V1Explained", "components": page["components"]}
    assert list(Draft202012Validator(schema).iter_errors(body)) == []
    (explanation,) = body["explanations"]
    found: dict[str, Any] = explanation
    return found


@pytest.mark.parametrize(("running", "folder"), [("server", "bundle"), ("cascade_server", "cascade_bundle")])
def test_the_answer_that_is_served_is_explained_by_who_gave_it(
    running: str, folder: str, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(running)
    classifier = Classifier(request.getfixturevalue(folder))
    cleaned = classifier.encoder.clean(TEXTS)
    exits = classifier.cascade(cleaned)[1] if classifier.cascade else np.zeros(len(TEXTS), dtype=bool)
    for text, clean, answer, gone in zip(TEXTS, cleaned, classifier.classify(TEXTS), exits, strict=True):
        found = asked(server, text)
        assert (found["text"], found["label"], found["confidence"]) == (clean, answer.label, answer.confidence)
        assert found["stage"] == ("linear" if gone else "transformer")
        assert ("explained" in found) == (not gone)
        assert all(part["text"] == clean[part["start"] : part["end"]] for part in found["tokens"] + found["words"])
        for parts in (found["tokens"], found["words"]):
            total = found["baseline"] + found["rest"] + sum(part["attribution"] for part in parts)
            assert abs(total - found["score"]) <= 0.01 * abs(found["score"] - found["baseline"]) + 1e-6
        assert found["gap"] <= 0.01


def test_both_precisions_say_what_they_answer(server: Server, bundle: Path) -> None:
    text = SPORTS
    found = asked(server, text)
    (row,) = Classifier(bundle, "torch").probabilities([text])
    assert found["served"] == Bundle.open(bundle).spec.precision
    assert found["explained"]["precision"] == "fp32" and found["explained"]["same_label"] is True
    assert found["explained"]["label"] == found["label"] == "Sports"
    assert found["explained"]["confidence"] == pytest.approx(row.max(), abs=1e-5)


def test_the_words_of_a_label_speak_for_it(server: Server) -> None:
    # The class that the toy model gives to padding alone has nothing left that speaks for it.
    mixed = {
        "Sports": "goal cup league coach striker match bank",
        "Business": "shares profit market bonds price oil goal",
        "World": "treaty rebels border army minister truce goal",
    }
    found = {label: asked(server, text) for label, text in mixed.items()}
    told = [each for label, each in found.items() if each["label"] == label and each["score"] - each["baseline"] > 1]
    assert len(told) >= 2
    for each in told:
        *own, other = (part["attribution"] for part in each["words"])
        assert other < max(own) and sum(own) > abs(other)


# Two texts are too many here before the second is empty, and 100,000 brackets are more than one text needs.
BAD = [(body, message) for body, message in V1_BAD if b'"ok", ""' not in body and len(body) < 1000]


@pytest.mark.parametrize(("body", "message"), BAD, ids=[message for _, message in BAD])
def test_what_is_bad_for_predict_is_bad_for_explain(server: Server, body: bytes, message: str) -> None:
    both = [httpx.post(f"{server.http}/v1/models/toy:{verb}", content=body) for verb in ("predict", "explain")]
    assert [got.status_code for got in both] == [400, 400] and both[0].json() == both[1].json()


def test_one_text_is_explained_at_a_time(server: Server) -> None:
    url = f"{server.http}/v1/models/toy:explain"
    got = httpx.post(url, json={"instances": ["goal", "cup"]})
    assert got.status_code == 400 and got.json()["error"].startswith("the request has 2 texts: send one")
    assert httpx.post(url, json={"instances": ["a"] * 50_000}).status_code == 413
    got = httpx.post(url, json={"instances": [EMPTY[1]]})
    assert got.status_code == 400 and got.json()["empty"] == [0]
    assert httpx.get(url).status_code == 405
    assert httpx.post(url, content=b"{}", headers={"content-encoding": "gzip"}).status_code == 415


def test_predictions_and_health_go_on_while_a_text_is_explained(cascade_server: Server) -> None:
    statuses: list[int] = []

    def ask() -> None:
        body = {"instances": ["zzz goal bank treaty " * 400]}
        got = httpx.post(f"{cascade_server.http}/v1/models/toy:explain", json=body, timeout=300)
        statuses.append(got.status_code)

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for caller in callers:
        caller.start()
    while any(caller.is_alive() for caller in callers):
        assert httpx.get(f"{cascade_server.http}/v2/health/live").status_code == 200
        got = httpx.post(f"{cascade_server.http}/v1/models/toy:predict", json={"instances": [SPORTS]})
        assert got.json()["predictions"][0]["label"] == "Sports"
    assert set(statuses) <= {200, 503} and 200 in statuses
    seen = metric(cascade_server, "text_classifier_explanations_total")
    assert sum(seen.values()) >= 4 and any('code="200"' in name for name in seen)


ROW = np.ones(3, dtype=np.float32)


class Held(Explainer):
    """Explains a text when the test lets it."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        self.gate = threading.Event()

    def _explain(self, text: str, row: Any) -> dict[str, Any]:
        self.gate.wait(30)
        return {"text": text}


def test_a_second_text_is_refused_and_a_caller_who_left_frees_no_place(bundle: Path) -> None:
    async def scene() -> None:
        held = Held(Classifier(bundle))
        first = asyncio.ensure_future(held.explain("a", ROW))
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="another text is being explained"):
            await held.explain("b", ROW)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        with pytest.raises(Busy):
            await held.explain("b", ROW)
        held.gate.set()
        await asyncio.sleep(0.2)
        assert await held.explain("c", ROW) == {"text": "c"}
        held.close()

    asyncio.run(scene())


def test_without_pytorch_only_the_linear_model_is_explained(
    cascade_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explainer, "find_spec", lambda name: None)
    classifier = Classifier(cascade_bundle)
    rows = classifier.probabilities([TEXTS[-1], "zzz"])

    async def scene() -> None:
        explaining = Explainer(classifier)
        assert (await explaining.explain(TEXTS[-1], rows[0]))["stage"] == "linear"
        with pytest.raises(NotInstalled, match=r"pigeonhole\[serve,explain\], or from the image of the steps") as no:
            await explaining.explain("zzz", rows[1])
        assert no.value.status == 501
        explaining.close()

    asyncio.run(scene())


@pytest.mark.slow(reason="loads PyTorch in two processes, one after the other")
def test_a_process_that_died_is_started_again(bundle: Path) -> None:
    classifier = Classifier(bundle)
    (row,) = classifier.probabilities(["goal cup"])

    async def scene() -> None:
        explaining = Explainer(classifier)
        before = await explaining.explain("goal cup", row)
        process = explaining._process
        assert process is not None
        process.kill()
        process.wait()
        assert await explaining.explain("goal cup", row) == before
        explaining.close()
        assert explaining._process is None and process.poll() is not None

    asyncio.run(scene())


def a_worker_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a short script in the place of the process that explains."""
    (folder / "silent_worker.py").write_text(does)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(explainer, "WORKER", "silent_worker")


def test_a_process_that_ends_at_once_says_so_and_leaves_nothing(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_worker_that("raise SystemExit(3)", tmp_path, monkeypatch)
    explaining = Explainer(Classifier(bundle))
    # Longer than what a pipe holds, so that it cannot all be written before the process has ended.
    monkeypatch.setattr(explaining._classifier.encoder, "clean", lambda texts: [text * 100_000 for text in texts])

    async def scene() -> None:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the process that explains ended with 3"):
                await explaining.explain("goal", ROW)
            assert explaining._process is None
        explaining.close()

    asyncio.run(scene())


def test_closing_waits_for_no_process(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_worker_that("import time\ntime.sleep(60)", tmp_path, monkeypatch)
    started = threading.Event()
    popen = subprocess.Popen

    def slowly(*args: Any, **more: Any) -> Any:
        started.set()
        time.sleep(0.5)
        return popen(*args, **more)

    monkeypatch.setattr(subprocess, "Popen", slowly)
    explaining = Explainer(Classifier(bundle))

    async def scene() -> None:
        asked = asyncio.ensure_future(explaining.explain("goal", ROW))
        await asyncio.to_thread(started.wait)
        before = time.monotonic()
        await asyncio.to_thread(explaining.close)
        assert time.monotonic() - before < 20
        with pytest.raises(RuntimeError):
            await asked

    asyncio.run(scene())
