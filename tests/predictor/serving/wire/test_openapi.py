"""Requests made from the server's own page, good and bad, and answers held against it."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS
from schemathesis.core.transport import Response

from predictor.model.bundle import Bundle
from predictor.model.conformal import levels_of
from predictor.model.text import clean
from predictor.serving.wire.openapi import document
from tests.conftest import NAMES, SPORTS
from tests.predictor.conftest import Server, serving

GOOD = {"instances": [SPORTS]}


LEVELS = [0.9, 0.95]
"""What the toy's few validation rows can guarantee."""
PAGE = document("toy", "v", ["Business", "Sports", "World"], LEVELS, names=NAMES)
api = schemathesis.openapi.from_dict(PAGE)
# A POST anywhere else is a 404 that names the two places for one, not a 405.
api.config.phases.coverage.unexpected_methods = {"PUT", "PATCH", "DELETE"}


def no_surprise(context: Any, response: Response, case: schemathesis.Case[Any]) -> None:
    """A 504 is the caller's own deadline, after which an explanation may go on: then the next one gets a 503.

    Of errors nothing is said but one sentence, and nothing of the inside.
    """
    explaining = case.path.endswith(":explain")
    assert response.status_code < 500 or response.status_code == 504 or (explaining and response.status_code == 503)
    if response.status_code >= 400:
        sentence = response.json()["error"]
        assert "\n" not in sentence and "Traceback" not in sentence and ".py" not in sentence
        assert len(sentence) < 400


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With all that the page names: a prediction log and jobs."""
    folder = tmp_path_factory.mktemp("server")
    options = ("--log-url", str(folder / "predictions"))
    with serving(bundle, folder / "log", *options, program="tests.fakes.jobs") as running:
        yield running


@pytest.fixture(scope="module")
def loaded(server: Server) -> Server:
    """The server once it has PyTorch in memory, which takes longer than a request here may wait."""
    for _ in range(200):
        if httpx.post(f"{server.http}/v1/models/toy:explain", json=GOOD, timeout=60).status_code == 200:
            return server
        time.sleep(1)
    raise AssertionError(f"nothing is explained: {server.log.read_text()}")


@pytest.mark.slow(reason="hundreds of requests made from the page")
@api.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_the_page_is_true_and_no_request_harms_the_next(case: schemathesis.Case[Any], loaded: Server) -> None:
    excluded: list[Callable[..., Any]] = [CHECKS.get_one("not_a_server_error")]
    # A schema cannot say that a shape's product is the number of texts, nor that a CSV file has a column.
    if case.path.endswith("/infer") or case.media_type == "text/csv":
        excluded.append(CHECKS.get_one("positive_data_acceptance"))
    if {"x-schemathesis-unknown-property"} & {*(case.headers or {}), *(case.query or {})}:  # as any client may add one
        excluded.append(CHECKS.get_one("negative_data_rejection"))
    case.call_and_validate(loaded.http, additional_checks=[no_surprise], excluded_checks=excluded)
    got = httpx.post(f"{loaded.http}/v1/models/toy:predict", json=GOOD)
    assert got.json()["predictions"][0]["label"] == "Sports"


def test_the_page_is_the_servers(server: Server, bundle: Path) -> None:
    labels, version = PAGE["components"]["schemas"]["Label"], Bundle.open(bundle).digest[:12]
    spec = Bundle.open(bundle).spec
    assert httpx.get(f"{server.http}/openapi.json").json() == document("toy", version, spec.labels, LEVELS, names=NAMES)
    assert levels_of(spec.conformal) == LEVELS
    assert labels["enum"] == Bundle.open(bundle).spec.labels


def test_the_page_does_not_list_thousands_of_labels() -> None:
    page = document("toy", "0123456789ab", [f"label {number}" for number in range(5000)])
    assert "label 0" in json.dumps(page) and "label 999" not in json.dumps(page)


def test_the_pages_examples_are_answered_as_it_says(server: Server) -> None:
    page = httpx.get(f"{server.http}/openapi.json").json()
    for path, operations in page["paths"].items():
        for method, operation in operations.items():
            wanted = operation["responses"]["200"]["content"].get("application/json", {}).get("example")
            if wanted is None:
                continue
            asked = operation.get("requestBody", {"content": {}})["content"].get("application/json", {}).get("example")
            got = httpx.request(method, server.http + path, json=asked).raise_for_status().json()
            if method == "get":
                assert got == wanted or path == "/v2", path
            else:
                assert got.keys() == wanted.keys(), path


def test_the_page_is_met_at_docs(server: Server) -> None:
    got = httpx.get(f"{server.http}/docs")
    assert got.status_code == 200 and "/openapi.json" in got.text and "://" not in got.text


def test_the_pages_texts_have_a_character_that_cleaning_leaves() -> None:
    instances = PAGE["components"]["schemas"]["V1Request"]["properties"]["instances"]
    pattern = re.compile(instances["items"]["anyOf"][0]["pattern"])
    characters = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]
    assert [text for text in characters if bool(pattern.search(text)) != bool(clean(text))] == []
