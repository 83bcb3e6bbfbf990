"""A running server with bearer tokens: over every protocol, renewed while it runs, and the client that sends them."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from typer.testing import CliRunner

from pipelines.cli.app import app
from predictor.client import Answers, ask
from predictor.client import Server as Asked
from predictor.errors import InputError
from tests.conftest import BUSINESS, SPORTS
from tests.predictor.conftest import Server, serving
from tests.predictor.serving.asking import metric

TEXTS = [SPORTS, BUSINESS]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secret") / "tokens"
    file.write_text("old\n")
    return file


@pytest.fixture(scope="module")
def guarded(bundle: Path, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(bundle, log, "--token-file", str(tokens), program="tests.fakes.jobs") as server:
        yield server


def asked(server: Server, protocol: str, token_file: Path | None) -> list[str | None]:
    url = f"http://{server.grpc}" if protocol == "grpc" else server.http
    return Answers.joined(ask(Asked.at(protocol, url, "toy", token_file), TEXTS)).labels


@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc"])
def test_the_client_needs_the_token_over_every_protocol(
    protocol: str, guarded: Server, tokens: Path, tmp_path: Path
) -> None:
    tokens.write_text("old\n")
    wrong = tmp_path / "wrong"
    wrong.write_text("other")
    assert asked(guarded, protocol, tokens) == ["Sports", "Business"]
    for file in (None, wrong):
        with pytest.raises(InputError, match=r"bearer token is missing or wrong.*--token-file"):
            asked(guarded, protocol, file)


@pytest.mark.parametrize("protocol", ["v2", "grpc"])
def test_a_token_is_renewed_without_a_restart(protocol: str, guarded: Server, tokens: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("new")
    tokens.write_text("old\nnew\n")
    assert asked(guarded, protocol, mine) == ["Sports", "Business"]
    tokens.write_text("new\n")
    assert asked(guarded, protocol, mine) == ["Sports", "Business"]
    mine.write_text("old")
    with pytest.raises(InputError, match="bearer token"):
        asked(guarded, protocol, mine)
    tokens.write_text("old\n")


def test_without_tokens_all_texts_are_refused_and_health_is_answered(guarded: Server, tokens: Path) -> None:
    header = {"authorization": "Bearer old"}
    tokens.write_text("")
    try:
        for path in ("/v1/models/toy:predict", "/v2/models/toy/infer", "/v1/sort", "/v1/models/toy:feedback"):
            got = httpx.post(guarded.http + path, json={"instances": ["goal"]}, headers=header)
            assert got.status_code == 503 and "no token to compare with" in got.json()["error"]
        with grpc.insecure_channel(guarded.grpc) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                GRPCInferenceServiceStub(channel).ModelInfer(pb.ModelInferRequest(), metadata=tuple(header.items()))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            GRPCInferenceServiceStub(channel).ModelMetadata(pb.ModelMetadataRequest(name="toy"))
        for path in ("/v2/health/ready", "/v2/models/toy", "/metrics", "/openapi.json", "/docs", "/v1/models"):
            assert httpx.get(guarded.http + path).status_code == 200
    finally:
        tokens.write_text("old\n")


def test_one_token_and_no_other_is_sent_over_grpc(guarded: Server, tokens: Path) -> None:
    tokens.write_text("old\n")
    before = metric(guarded, "text_classifier_requests_total")
    with grpc.insecure_channel(guarded.grpc) as channel:
        for metadata in ((), (("authorization", "Bearer no"),), (("authorization", "Bearer old"),) * 2):
            with pytest.raises(grpc.RpcError) as caught:
                GRPCInferenceServiceStub(channel).ModelInfer(pb.ModelInferRequest(), metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    after = metric(guarded, "text_classifier_requests_total")
    grown = [key for key in after if after[key] - before.get(key, 0) == 3]
    assert len(grown) == 1 and 'code="401"' in grown[0] and 'protocol="grpc"' in grown[0]


def test_a_job_is_its_submitters_alone(guarded: Server, tokens: Path) -> None:
    tokens.write_text("old\nnew\n")
    old, new = ({"authorization": f"Bearer {token}"} for token in ("old", "new"))
    body = {"texts": TEXTS, "async": True}
    job = httpx.post(f"{guarded.http}/v1/sort/batch", json=body, headers=old).json()["request_id"]
    place = f"{guarded.http}/v1/sort/status/{job}"
    assert httpx.get(place, headers=old).status_code == 200
    other, none = httpx.get(place, headers=new), httpx.get(f"{guarded.http}/v1/sort/status/{'0' * 32}", headers=new)
    assert other.status_code == none.status_code == 404 and other.json() == none.json()
    assert httpx.delete(place, headers=new).status_code == 404 and httpx.get(place).status_code == 401


def test_predict_sends_the_token(guarded: Server, tokens: Path) -> None:
    tokens.write_text("old\n")
    words = ["predict", "--url", guarded.http, "--model-name", "toy", "-o", "json", *TEXTS]
    done = CliRunner().invoke(app, [*words, "--token-file", str(tokens)])
    assert [row["label"] for row in json.loads(done.stdout)["predictions"]] == ["Sports", "Business"]


def test_the_page_says_that_a_token_is_needed(guarded: Server, server: Server) -> None:
    page = httpx.get(f"{guarded.http}/openapi.json").json()
    assert page["paths"]["/v1/sort"]["post"]["security"] and "security" not in page["paths"]["/v1/models"]["get"]
    assert "securitySchemes" not in httpx.get(f"{server.http}/openapi.json").json()["components"]


def test_a_client_whose_token_is_not_there_asks_nobody(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        list(ask(Asked.at("v2", "http://127.0.0.1:9", "toy", tmp_path / "none"), TEXTS))
