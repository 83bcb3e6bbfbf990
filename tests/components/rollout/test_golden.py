"""Golden texts: both versions are asked at their own addresses; other labels, or no answer, object to the canary."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException

from components.rollout.golden import SECRET, Golden, check_asked, objection, predictors_token
from components.rollout.inference_service import Service
from components.rollout.state import ModelVersion, Observation, Phase, Rollout, Settings
from components.rollout.transitions import next_state
from predictor.client import retry
from predictor.errors import InputError, Unavailable
from tests.fakes.memory_cluster import memory_cluster
from tests.fakes.predictor import Fake, serving

_A, _B = (ModelVersion(letter * 12, f"s3://models/news/{letter * 12}") for letter in "ab")
_ROLLOUT = Rollout(_A, _B, Phase.PREPARING, 0.0, 0.0, Settings(deadline=600))


def _service(mode: str = "Standard", **status: Any) -> Service:
    spec = {"predictor": {"model": {"modelFormat": {"name": "pigeonhole"}, "storageUri": _A.uri}}}
    metadata = {"name": "news", "resourceVersion": "1"}
    return Service({"metadata": metadata, "spec": spec, "status": {"deploymentMode": mode, **status}})


def _worlds(last: int) -> Callable[[str], str]:
    """Label "text 0" and so on: World from the 40th back to so many, Sports the others."""
    return lambda text: "World" if int(text.removeprefix("text ")) >= 40 - last else "Sports"


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Fake, Golden]]:
    """The canary, and the golden texts with its address and that of a stable version that always says Sports."""
    monkeypatch.setattr(retry, "_PAUSES", (0.0,))
    canary = Fake(_worlds(0))
    with serving(Fake(_worlds(0))) as stable_url, serving(canary) as canary_url:
        yield canary, Golden([f"text {n}" for n in range(40)], 0.1, stable_url, canary_url)


def test_golden_texts_speak_against_a_canary_that_answers_otherwise(versions: tuple[Fake, Golden]) -> None:
    canary, golden = versions
    canary.label = _worlds(4)
    assert objection(golden, "team-a", _service(), _ROLLOUT) == ""
    assert canary.paths == ["/v1/models/news:predict"]
    canary.label = _worlds(5)
    sentence = objection(golden, "team-a", _service(), _ROLLOUT)
    assert sentence == "12.5% of 40 golden texts get another label"
    assert next_state(_ROLLOUT, Observation(_service(), 1.0, objection=sentence)).phase is Phase.ROLLING_BACK


def test_golden_texts_have_the_token_that_the_predictors_want(versions: tuple[Fake, Golden], tmp_path: Path) -> None:
    canary, golden = versions
    canary.token = "one"
    assert "401 (the bearer token is missing or wrong)" in objection(golden, "team-a", _service(), _ROLLOUT)
    (tmp_path / "token").write_text("one\n")
    assert objection(replace(golden, token_file=tmp_path / "token"), "team-a", _service(), _ROLLOUT) == ""


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((200, {}, '{"predictions": []}'), "(40 texts got 0 answers"),
        ((200, {}, "<html>"), "answers, but not with predictions"),
        ((404, {}, '{"error": "there is no model news"}'), "404 (there is no model news)"),
        ((429, {}, '{"error": "full"}'), "429 (full)"),
    ],
)
def test_a_canary_without_answers_is_objected_to(
    versions: tuple[Fake, Golden], answer: tuple[int, dict[str, str], str], sentence: str
) -> None:
    canary, golden = versions
    canary.answers = [answer]
    found = objection(golden, "team-a", _service(), _ROLLOUT)
    assert found.startswith("the golden texts got no answer (") and sentence in found and len(found) <= 300


def test_a_canary_that_finds_no_words_is_objected_to(versions: tuple[Fake, Golden]) -> None:
    canary, golden = versions
    canary.answers = [(400, {}, '{"error": "text 3 is empty", "empty": [3]}'), (200, {}, None)]
    assert "finds no words in golden text 4)" in objection(golden, "team-a", _service(), _ROLLOUT)


def test_a_canary_that_is_away_is_objected_to(versions: tuple[Fake, Golden]) -> None:
    gone = replace(versions[1], canary_url="http://127.0.0.1:9")
    assert "got no answer (http://127.0.0.1:9/v1/models/news:predict cannot be reached" in objection(
        gone, "team-a", _service(), _ROLLOUT
    )


def test_a_busy_canary_is_asked_again(versions: tuple[Fake, Golden]) -> None:
    canary, golden = versions
    canary.answers = [(503, {"Retry-After": "0"}, "{}"), (200, {}, None)]
    bare = replace(golden, canary_url=golden.canary_url.removeprefix("http://"))
    assert objection(bare, "team-a", _service(), _ROLLOUT) == ""


def test_golden_texts_go_where_the_cluster_has_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def labels(url: str, *_: object) -> list[str]:
        asked.append(url)
        return ["World"]

    monkeypatch.setattr("components.rollout.golden._labels", labels)
    rollout = replace(_ROLLOUT, stable_predictor="v1", canary_predictor="v2")
    addresses: list[tuple[dict[str, Any], str]] = [
        ({}, "svc.cluster.local"),
        # Services without an address of their own have the pods' port.
        ({"address": {"url": "http://news-v1-predictor.team-a.svc.example.org:8080"}}, "svc.example.org:8080"),
    ]
    for status, rest in addresses:
        asked.clear()
        assert objection(Golden(["text"]), "team-a", _service(**status), rollout) == ""
        assert asked == [f"http://news-{name}-predictor.team-a.{rest}" for name in ("v1", "v2")]


def test_golden_texts_are_refused_where_a_canary_has_no_address() -> None:
    knative = _service("Knative")
    with pytest.raises(InputError, match=r"annotate the service with .*enable-tag-routing: .* before the rollout"):
        check_asked(Golden(["text"]), knative)
    check_asked(Golden(["text"], canary_url="http://canary"), knative)
    check_asked(Golden(["text"]), _service())
    knative.document["metadata"]["annotations"] = {"serving.kserve.io/enable-tag-routing": "true"}
    check_asked(Golden(["text"]), knative)


def test_golden_texts_that_cleaning_empties_are_refused_before_anything() -> None:
    with pytest.raises(InputError, match="golden text 2 is empty once it is cleaned"):
        check_asked(Golden(["text", "<br> \u200b"]), _service())


def test_golden_texts_of_a_step_have_the_token_of_the_predictors_secret() -> None:
    cluster = memory_cluster()
    with predictors_token(cluster) as none:
        assert none is None
    core = CoreV1Api(cluster.api.api_client)
    for data, seen in (({"tokens": "one\ntwo\n"}, "one\ntwo\n"), ({"tokens": ""}, "")):
        body = {"metadata": {"name": SECRET}, "data": {k: b64encode(v.encode()).decode() for k, v in data.items()}}
        core.create_namespaced_secret(cluster.namespace, body)
        with predictors_token(cluster) as file:
            assert file is not None and file.read_text() == seen
        assert not file.exists()
        core.delete_namespaced_secret(SECRET, cluster.namespace)

    core.create_namespaced_secret(cluster.namespace, {"metadata": {"name": SECRET}, "data": {"token": "b25l"}})
    with pytest.raises(InputError, match=r"secret pigeonhole-tokens in namespace team-a has no key tokens: "):
        predictors_token(cluster).__enter__()


@pytest.mark.parametrize(("status", "raised"), [(401, None), (403, None), (500, Unavailable)])
def test_who_may_not_read_the_secret_asks_without_a_token(
    monkeypatch: pytest.MonkeyPatch, status: int, raised: type[Exception] | None
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise ApiException(status, "no")

    monkeypatch.setattr(CoreV1Api, "read_namespaced_secret", refused)
    with pytest.raises(raised) if raised else nullcontext(), predictors_token(memory_cluster()) as file:
        assert file is None
