"""The log of a running server: what its answers say, what feedback takes, what a kill and a hanging store cost."""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.model.bundle import Bundle
from predictor.records import prediction_of, text_hash
from tests.predictor.conftest import Server, serving
from tests.predictor.serving.asking import TEXTS, ask_grpc, many, metric, tensor_of

PREDICT, FEEDBACK = "/v1/models/toy:predict", "/v1/models/toy:feedback"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def logged(cascade_bundle: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    options = ("--revision", "canary-1", "--log-url", str(folder), "--log-interval", "0.1")
    with serving(cascade_bundle, log, *options) as running:
        yield running


def read(folder: Path, kind: str = "predictions") -> dict[str, dict[str, Any]]:
    parts = sorted(folder.glob(f"toy/{kind}/date=*/*.jsonl.gz"))
    rows = [json.loads(line) for part in parts for line in gzip.decompress(part.read_bytes()).splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def until_stored(server: Server) -> None:
    """Wait until nothing waits to be stored."""
    for _ in range(600):
        if not sum(metric(server, "text_classifier_log_waiting_records").values()):
            return
        time.sleep(0.05)
    raise AssertionError("the log is not stored")


def post(server: Server, path: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(server.http + path, json=body, headers=headers, timeout=60)


def test_every_answer_has_the_id_of_its_records(logged: Server, folder: Path, cascade_bundle: Path) -> None:
    v1 = post(logged, PREDICT, {"instances": TEXTS}).raise_for_status()
    named = post(logged, PREDICT, {"instances": ["goal cup"]}, **{"x-request-id": "mine"}).raise_for_status()
    v2 = post(logged, "/v2/models/toy/infer", {"id": "theirs", "inputs": [tensor_of(["goal"])]}).raise_for_status()
    new = post(logged, "/v2/models/toy/infer", {"inputs": [tensor_of(["goal cup"])]}).raise_for_status()
    contents = pb.InferTensorContents(bytes_contents=[b"treaty"])
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1], contents=contents)
    rpc = ask_grpc(logged, pb.ModelInferRequest(model_name="toy", inputs=[tensor]))
    until_stored(logged)
    rows, request = read(folder), v1.headers["x-request-id"]
    assert [rows[f"{request}/{place}"]["text"] for place in range(len(TEXTS))] == TEXTS
    answers = [(row["label"], row["confidence"]) for row in v1.json()["predictions"]]
    records = [prediction_of(rows[f"{request}/{place}"]) for place in range(len(TEXTS))]
    assert [(record.label, record.confidence) for record in records] == answers
    assert named.headers["x-request-id"] == "mine" and v2.json()["id"] == "theirs"
    assert new.json()["id"] == new.headers["x-request-id"] and rpc.id
    assert {"mine", "theirs", new.json()["id"], rpc.id} <= rows.keys()
    digest = Bundle.open(cascade_bundle).digest
    assert {(record.revision, record.bundle) for record in records} == {("canary-1", digest)}
    assert {record.stage for record in records} == {"linear", "transformer"}
    for record in records:
        assert (record.tokens is None) == (record.stage == "linear")
        assert record.probabilities and max(record.probabilities.values()) == record.confidence
    assert (rows[new.json()["id"]]["stage"], rows["mine"]["text_hash"]) == ("cache", text_hash("goal cup"))


def test_each_text_of_a_large_request_has_a_record(logged: Server, folder: Path) -> None:
    body = {"instances": ["goal"] * 2100}  # more values than are written on the event loop
    post(logged, PREDICT, body, **{"x-request-id": "large"}).raise_for_status()
    until_stored(logged)
    rows = read(folder)
    assert {name for name in rows if name.startswith("large")} == {f"large/{place}" for place in range(2100)}


def test_refused_requests_leave_no_records(logged: Server, folder: Path) -> None:
    for body in ({"instances": [5]}, {"instances": ["goal", "<b></b>"]}, {}):
        assert post(logged, PREDICT, body, **{"x-request-id": "refused"}).status_code == 400
    until_stored(logged)
    assert not [name for name in read(folder) if name.startswith("refused")]


def test_feedback_is_stored_and_counted(logged: Server, folder: Path) -> None:
    before = metric(logged, "text_classifier_feedback_total")
    body = {"feedback": [{"id": "mine", "label": "World", "source": "reader"}, {"id": "x/1", "label": "Sports"}]}
    got = post(logged, FEEDBACK, body)
    assert (got.status_code, got.json()) == (200, {"accepted": 2})
    until_stored(logged)
    rows = read(folder, "feedback")
    assert [(rows[name]["label"], rows[name]["source"]) for name in ("mine", "x/1")] == [
        ("World", "reader"), ("Sports", None),
    ]  # fmt: skip
    after = metric(logged, "text_classifier_feedback_total")
    assert sorted(after[key] - before[key] for key in after) == [0, 2]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "no list 'feedback'"),
        ([], 400, "JSON array"),
        ({"feedback": []}, 400, "is empty"),
        ({"feedback": ["mine"]}, 400, "feedback 0 is a JSON string"),
        ({"feedback": [{"id": "mine"}]}, 400, "feedback 0 has no text 'label'"),
        ({"feedback": [{"id": "", "label": "World"}]}, 400, "feedback 0 has no text 'id'"),
        ({"feedback": [{"id": "a", "label": "World"}, {"id": "b", "label": "world"}]}, 400, "feedback 1 has the label"),
        ({"feedback": [{"id": "a", "label": "World", "time": "now"}]}, 400, "has a field 'time'"),
        ({"feedback": [{"id": "a", "label": "World", "source": 5}]}, 400, "no text 'source'"),
        ({"feedback": [{"id": "a" * 1100, "label": "World"}]}, 400, "send 1032 at most"),
        ({"feedback": [{"id": "a", "label": "World"}] * 1001}, 413, "over 1000 labels"),
        ({"feedback": [{"id": "a", "label": "World", "source": "s" * 100}] * 1000}, 200, ""),
    ],
)
def test_feedback_that_is_none_is_refused_whole(body: Any, status: int, words: str, logged: Server) -> None:
    got = post(logged, FEEDBACK, body)
    assert got.status_code == status and words in got.json().get("error", ""), got.text


def test_feedback_needs_a_log(cascade_server: Server) -> None:
    got = post(cascade_server, FEEDBACK, {"feedback": [{"id": "a", "label": "World"}]})
    assert got.status_code == 404 and "--log-url" in got.json()["error"]
    assert httpx.get(cascade_server.http + FEEDBACK).status_code == 405


def test_the_end_of_the_server_stores_what_waits(bundle: Path, tmp_path: Path) -> None:
    options = ("--log-url", str(tmp_path / "log"), "--log-interval", "3600", "--log-redact", "text")
    with serving(bundle, tmp_path / "out", *options) as server:
        post(server, PREDICT, {"instances": ["goal", "treaty"]}, **{"x-request-id": "r"}).raise_for_status()
        assert not (tmp_path / "log").exists()
        assert server.stop() == 0
    rows = read(tmp_path / "log")
    assert sorted(rows) == ["r/0", "r/1"] and rows["r/0"]["text"] is None and rows["r/0"]["characters"] == 4


def test_a_kill_loses_what_is_younger_than_a_flush_and_nothing_else(bundle: Path, tmp_path: Path) -> None:
    options = ("--log-url", str(tmp_path / "log"), "--log-interval", "1")
    with serving(bundle, tmp_path / "out", *options) as server:
        answered: list[tuple[str, float]] = []
        while not answered or time.monotonic() - answered[0][1] < 3:
            name = f"r{len(answered)}"
            post(server, PREDICT, {"instances": ["goal"]}, **{"x-request-id": name}).raise_for_status()
            answered.append((name, time.monotonic()))
        stored = sum(
            value for key, value in metric(server, "text_classifier_log_records_total").items() if "written" in key
        )
        server.process.kill()
        server.process.wait()
    rows = read(tmp_path / "log")  # no part is damaged, none half written
    kept = [name for name, _ in answered if name in rows]
    assert kept == [name for name, _ in answered[: len(kept)]] and len(kept) >= stored >= 1


def test_a_store_that_hangs_fails_no_request_and_is_seen(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections and says nothing
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, "test")
        options = ("--log-url", "s3://bucket/log", "--log-interval", "0.1")
        with serving(bundle, tmp_path / "out", *options) as server:
            post(server, PREDICT, {"instances": ["goal"]}).raise_for_status()
            connection, _ = silent.accept()
            with connection:
                for _ in range(20):
                    post(server, PREDICT, {"instances": many(5)}).raise_for_status()
                assert httpx.get(f"{server.http}/v2/health/ready").status_code == 200
                assert sum(metric(server, "text_classifier_log_waiting_records").values()) == 101
                assert sum(metric(server, "text_classifier_log_oldest_seconds").values()) > 0
                assert server.stop() == 0
