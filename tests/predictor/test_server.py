import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from predictor.bundle import Bundle
from predictor.classifier import Classifier
from predictor.errors import InputError
from predictor.server import serve
from predictor.serving import Limits
from tests.predictor.conftest import Server, start_server

TEXTS = ["goal cup striker", "profit bank &amp; shares", "treaty — rebels, «vote»", "球 zzz"]


def _tensor(texts: list[Any], **more: Any) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts, **more}


def _grpc(server: Server, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    with grpc.insecure_channel(server.grpc) as channel:
        return GRPCInferenceServiceStub(channel).ModelInfer(request)


def _answers_v1(server: Server) -> list[tuple[str, float]]:
    body = httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": TEXTS}).raise_for_status().json()
    return [(row["label"], row["confidence"]) for row in body["predictions"]]


def _answers_v2(server: Server) -> list[tuple[str, float]]:
    body = httpx.post(f"{server.http}/v2/models/toy/infer", json={"inputs": [_tensor(TEXTS)]}).raise_for_status().json()
    data = {output["name"]: output["data"] for output in body["outputs"]}
    return list(zip(data["label"], data["confidence"], strict=True))


def _packed(texts: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def _unpacked(raw: bytes) -> list[str]:
    texts = []
    while raw:
        (size,) = struct.unpack_from("<I", raw)
        texts.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return texts


def _answers_v2_binary(server: Server) -> list[tuple[str, float]]:
    raw = _packed(TEXTS)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(TEXTS)], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    got = httpx.post(f"{server.http}/v2/models/toy/infer", content=head + raw, headers=headers).raise_for_status()
    size = int(got.headers["inference-header-content-length"])
    outputs = {output["name"]: output for output in json.loads(got.content[:size])["outputs"]}
    labels = outputs["label"]["parameters"]["binary_data_size"]
    confidence = np.frombuffer(got.content[size + labels :], dtype="<f4")
    return list(zip(_unpacked(got.content[size : size + labels]), confidence.tolist(), strict=True))


def _answers_grpc(server: Server) -> list[tuple[str, float]]:
    contents = pb.InferTensorContents(bytes_contents=[text.encode() for text in TEXTS])
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(TEXTS)], contents=contents)
    answer = _grpc(server, pb.ModelInferRequest(model_name="toy", inputs=[tensor]))
    data = {output.name: output.contents for output in answer.outputs}
    labels = [label.decode() for label in data["label"].bytes_contents]
    return list(zip(labels, data["confidence"].fp32_contents, strict=True))


def _answers_grpc_raw(server: Server) -> list[tuple[str, float]]:
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(TEXTS)])
    answer = _grpc(server, pb.ModelInferRequest(model_name="toy", inputs=[tensor], raw_input_contents=[_packed(TEXTS)]))
    assert [output.name for output in answer.outputs] == ["label", "confidence"]
    labels, confidence = answer.raw_output_contents
    return list(zip(_unpacked(labels), np.frombuffer(confidence, dtype="<f4").tolist(), strict=True))


def _many(count: int) -> list[str]:
    """Texts of 60 words, no two alike."""
    return [f"{'goal bank treaty ' * 20}{number}" for number in range(count)]


def test_every_protocol_gives_the_classifiers_answers_bit_for_bit(server: Server, bundle: Path) -> None:
    ours = [(answer.label, answer.confidence) for answer in Classifier(bundle).classify(TEXTS)]
    for ask in (_answers_v1, _answers_v2, _answers_v2_binary, _answers_grpc, _answers_grpc_raw):
        assert ask(server) == ours, ask.__name__


def test_instances_may_be_objects_and_the_charset_may_be_named(server: Server) -> None:
    for content_type in ("application/json", "application/json; charset=utf-8", "text/plain"):
        got = httpx.post(
            f"{server.http}/v1/models/toy:predict",
            content=json.dumps({"instances": [{"text": "goal cup"}]}),
            headers={"content-type": content_type},
        )
        assert got.json()["predictions"][0]["label"] == "Sports", content_type
    got = httpx.post(
        f"{server.http}/v2/models/toy/infer",
        content=json.dumps({"inputs": [_tensor(["goal cup"])]}),
        headers={"content-type": "application/json; charset=utf-8"},
    )
    assert got.json()["outputs"][0]["data"] == ["Sports"]


def test_request_ids_versions_and_asked_outputs(server: Server, bundle: Path) -> None:
    request = {"id": "r1", "inputs": [_tensor(["goal"])], "outputs": [{"name": "confidence"}]}
    body = httpx.post(f"{server.http}/v2/models/toy/infer", json=request).json()
    assert body["id"] == "r1" and body["model_version"] == Bundle.open(bundle).digest[:12]
    assert [output["name"] for output in body["outputs"]] == ["confidence"]


def test_metadata_says_the_true_inputs_and_outputs(server: Server) -> None:
    body = httpx.get(f"{server.http}/v2/models/toy").json()
    assert [(t["name"], t["datatype"]) for t in body["inputs"]] == [("text", "BYTES")]
    assert [(t["name"], t["datatype"], t["shape"]) for t in body["outputs"]] == [
        ("label", "BYTES", [-1]),
        ("confidence", "FP32", [-1]),
        ("probabilities", "FP32", [-1, 3]),
        ("top_labels", "BYTES", [-1, -1]),
        ("top_confidences", "FP32", [-1, -1]),
    ]


V1_BAD = [
    (b"{", "not JSON|Unrecognized"),
    (b"", "not JSON|Unrecognized"),
    (b"[1]", "JSON array"),
    (b'"text"', "JSON string"),
    (b"{}", "no 'instances'"),
    (b'{"instances": "text"}', "'instances' is a JSON string"),
    (b'{"instances": []}', "no texts"),
    (b'{"instances": [5]}', "instance 0 is a JSON number"),
    (b'{"instances": ["ok", null]}', "instance 1 is a JSON null"),
    (b'{"instances": ["ok", ""]}', "text 1 is empty"),
    (b'{"instances": [" \\n"]}', "text 0 is empty"),
    (b'{"instances": [{"body": "x"}]}', "instance 0 is a JSON object"),
    (b'{"instances": [["nested"]]}', "instance 0 is a JSON array"),
    (b'{"instances": [true]}', "JSON boolean"),
    (b'\xff{"instances": ["x"]}', "not JSON|Unrecognized|cannot be read"),
]


V1_BAD += [
    (b'{"instances": ["\\ud800"]}', "not JSON"),
    (b'{"instances": ' + b"[" * 100_000, "not JSON"),
    (b'{"instances": ["x"], "parameters": []}', "'parameters' is a JSON array"),
    (b'{"instances": ["x"], "parameters": {"top_k": 0}}', "top_k is 0"),
    (b'{"instances": ["x"], "parameters": {"timeout": "soon"}}', "timeout is 'soon'"),
]


@pytest.mark.parametrize(("body", "message"), V1_BAD)
def test_bad_v1_requests_get_a_400_that_helps(server: Server, body: bytes, message: str) -> None:
    import re

    got = httpx.post(f"{server.http}/v1/models/toy:predict", content=body, headers={"content-type": "application/json"})
    assert got.status_code == 400, got.text
    assert re.search(message, got.json()["error"])
    assert _answers_v1(server)


V2_BAD = [
    ({}, "inputs"),
    ({"inputs": []}, "input tensors none"),
    ({"inputs": [{**_tensor(["x"]), "name": "body"}]}, "'body'"),
    ({"inputs": [_tensor(["x"]), _tensor(["x"])]}, "'text', 'text'"),
    ({"inputs": [{**_tensor([1]), "datatype": "INT32"}]}, "datatype 'INT32'"),
    ({"inputs": [_tensor([7])]}, "element 0 of input 'text' is a JSON number"),
    ({"inputs": [_tensor(["x", None])]}, "element 1|inputs"),
    ({"inputs": [_tensor(["x"], shape=[2])]}, "has 1 elements but shape"),
    ({"inputs": [_tensor(["x"], shape=[-1])]}, "shape"),
    ({"inputs": [_tensor(["x"], shape=[])]}, "shape"),
    ({"inputs": [_tensor([], shape=[0])]}, "no texts"),
    ({"inputs": [_tensor([""])]}, "text 0 is empty"),
    ({"inputs": [_tensor(["x"])], "outputs": [{"name": "nope"}]}, "no output 'nope'"),
    ({"inputs": "x"}, "inputs"),
]


@pytest.mark.parametrize(("body", "message"), V2_BAD)
def test_bad_v2_requests_get_a_400_that_helps(server: Server, body: dict[str, Any], message: str) -> None:
    import re

    got = httpx.post(f"{server.http}/v2/models/toy/infer", json=body)
    assert got.status_code == 400, got.text
    assert re.search(message, got.json()["error"])


def test_broken_binary_tensors_get_a_400(server: Server) -> None:
    for raw in (b"\x05\x00\x00\x00ab", b"\x01", b"\x02\x00\x00\x00\xff\xfe"):
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(raw)}}
        head = json.dumps({"inputs": [tensor]}).encode()
        headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
        got = httpx.post(f"{server.http}/v2/models/toy/infer", content=head + raw, headers=headers)
        assert got.status_code == 400, got.text


@pytest.mark.parametrize(
    ("tensor", "raw"),
    [
        (pb.ModelInferRequest.InferInputTensor(name="body", datatype="BYTES", shape=[1]), [b"\x01\x00\x00\x00x"]),
        (pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[3]), [b"\x01\x00\x00\x00x"]),
        (pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1]), [b"\x09\x00\x00\x00x"]),
        (pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1]), [b"\x01\x00\x00\x00\xff"]),
        (pb.ModelInferRequest.InferInputTensor(name="text", datatype="INT32", shape=[1]), [b"\x01\x00\x00\x00"]),
    ],
)
def test_bad_grpc_requests_are_invalid_arguments(
    server: Server, tensor: pb.ModelInferRequest.InferInputTensor, raw: list[bytes]
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _grpc(server, pb.ModelInferRequest(model_name="toy", inputs=[tensor], raw_input_contents=raw))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_nobody_can_take_the_model_away(server: Server) -> None:
    for verb in ("load", "unload"):
        assert httpx.post(f"{server.http}/v2/repository/models/toy/{verb}").status_code == 400
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError):
        GRPCInferenceServiceStub(channel).RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="toy"))
    assert _answers_v1(server)


def test_an_unknown_model_is_a_404(server: Server) -> None:
    got = httpx.post(f"{server.http}/v1/models/other:predict", json={"instances": ["x"]})
    assert got.status_code == 404 and "other" in got.json()["error"]


def _metric(server: Server, name: str) -> dict[str, float]:
    lines = httpx.get(f"{server.http}/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)}


def test_counters_tell_protocol_code_category_and_revision(server: Server) -> None:
    before = _metric(server, "text_classifier_")
    _answers_v1(server), _answers_grpc(server)
    httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": [5]})
    after = _metric(server, "text_classifier_")
    grown = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    who = 'model_name="toy",revision="canary-1"'

    def requests(code: str, protocol: str) -> str:
        labels = f'code="{code}",model_name="toy",protocol="{protocol}",revision="canary-1"'
        return f"text_classifier_requests_total{{{labels}}}"

    assert grown[requests("200", "v1")] == 1
    assert grown[requests("200", "grpc")] == 1
    assert grown[requests("400", "v1")] == 1
    predictions = [value for key, value in grown.items() if key.startswith("text_classifier_predictions_total")]
    assert sum(predictions) == 2 * len(TEXTS)
    assert grown[f"text_classifier_latency_seconds_count{{{who}}}"] == 2
    assert {'category="World"' in key for key in after if "predictions_total" in key} == {True, False}


def test_health_stays_quick_while_the_model_works(server: Server) -> None:
    work = threading.Thread(
        target=httpx.post,
        args=(f"{server.http}/v1/models/toy:predict",),
        kwargs={"json": {"instances": _many(1500)}, "timeout": 120},
    )
    work.start()
    answered_during_work = 0
    while work.is_alive():
        assert httpx.get(f"{server.http}/v2/health/live").status_code == 200
        answered_during_work += work.is_alive()
    work.join()
    assert answered_during_work >= 3


def test_nothing_of_a_request_is_logged(server: Server) -> None:
    httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": ["secret words"]})
    httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": [5]})
    log = server.log.read_text()
    assert "secret" not in log and "Traceback" not in log and ":predict" not in log


def test_a_second_server_on_the_port_is_refused_in_one_sentence(server: Server, bundle: Path, tmp_path: Path) -> None:
    for option, port in (("--http-port", server.http.rsplit(":")[-1]), ("--grpc-port", server.grpc.rsplit(":")[-1])):
        with pytest.raises(AssertionError, match=f"ended with 2: pigeonhole: {option} {port} cannot be used"):
            start_server(bundle, tmp_path / "log", option, port)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "球", "-a"])
def test_a_name_that_cannot_stand_in_a_path_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot stand in a path"):
        serve(tmp_path, name, 8080, 8081, Limits(1024, 1.0, 0, 1024))


def test_nobody_waits_for_a_text_of_10_mb_or_a_request_of_100000(server: Server) -> None:
    def ask(instances: list[str]) -> int:
        return httpx.post(
            f"{server.http}/v1/models/toy:predict", json={"instances": instances}, timeout=120
        ).status_code

    assert ask(["goal " * 1_600_000]) == 200  # 8 MB; its first words are what is read
    assert ask(["goal " * 2_100_000]) == 413
    statuses: list[int] = []
    work = threading.Thread(target=lambda: statuses.append(ask([f"x {n}" for n in range(100_000)])))
    work.start()
    answered_meanwhile = 0
    while work.is_alive():
        assert httpx.get(f"{server.http}/v2/health/live", timeout=60).status_code == 200
        got = httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": ["goal cup"]}, timeout=60)
        assert got.json()["predictions"][0]["label"] == "Sports"
        answered_meanwhile += work.is_alive()
    assert statuses == [413] and answered_meanwhile


def test_half_sent_and_half_closed_requests_harm_nobody(server: Server) -> None:
    host, port = server.http.removeprefix("http://").split(":")
    head = b"POST /v1/models/toy:predict HTTP/1.1\r\nhost: m\r\ncontent-length: 100\r\n\r\n"
    halves = []
    for sent in (b"", b"POST", head, head + b'{"instances": ["go'):
        for half_closed in (False, True):
            connection = socket.create_connection((host, int(port)))
            connection.sendall(sent)
            if half_closed:
                connection.shutdown(socket.SHUT_WR)
            halves.append(connection)
    assert _answers_v1(server) == _answers_v2(server)
    for connection in halves:
        connection.close()
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"\x00\xff nonsense\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert _answers_v1(server) == _answers_v2(server)


def test_a_connection_outlives_bad_requests(server: Server) -> None:
    with httpx.Client() as client:
        for body, _ in V1_BAD:
            assert client.post(f"{server.http}/v1/models/toy:predict", content=body).status_code == 400
            got = client.post(f"{server.http}/v1/models/toy:predict", json={"instances": ["goal cup"]})
            assert got.json()["predictions"][0]["label"] == "Sports"


def test_probabilities_and_top_k_are_those_of_the_classifier(server: Server, bundle: Path) -> None:
    ours = Classifier(bundle)
    request = {"inputs": [_tensor(TEXTS)], "outputs": [{"name": "probabilities"}, {"name": "top_labels"}]}
    body = httpx.post(f"{server.http}/v2/models/toy/infer", json={**request, "parameters": {"top_k": 2}}).json()
    outputs = {output["name"]: output for output in body["outputs"]}
    rows = np.array(outputs["probabilities"]["data"], dtype=np.float32).reshape(outputs["probabilities"]["shape"])
    np.testing.assert_allclose(rows, ours.probabilities(TEXTS), atol=1e-6)
    best = [[ours.labels[place] for place in np.argsort(-row)[:2]] for row in rows]
    assert np.reshape(outputs["top_labels"]["data"], outputs["top_labels"]["shape"]).tolist() == best


def test_an_expired_deadline_is_a_504(server: Server) -> None:
    body = {"instances": _many(1000), "parameters": {"timeout": 1}}
    got = httpx.post(f"{server.http}/v1/models/toy:predict", json=body)
    assert got.status_code == 504 and "no answer within" in got.json()["error"]


def test_a_grpc_message_over_the_limit_is_refused(server: Server) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    with pytest.raises(grpc.RpcError) as caught:
        raw = _packed(["x" * 9_000_000])
        _grpc(server, pb.ModelInferRequest(model_name="toy", inputs=[tensor], raw_input_contents=[raw]))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert _answers_grpc(server)


def test_the_metrics_are_sound_openmetrics(server: Server) -> None:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    _answers_v1(server)
    got = httpx.get(f"{server.http}/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert got.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(got.text)}  # type: ignore[no-untyped-call]
    ours = {name for name in families if name.startswith("text_classifier_")}
    wanted = {"requests", "predictions", "latency_seconds", "stage_seconds", "batch_texts", "batch_tokens", "model"}
    wanted |= {"padding_tokens", "queue_texts", "queue_tokens", "confidence_ratio", "text_tokens", "cache_lookups"}
    assert ours == {f"text_classifier_{name}" for name in wanted}
    for name in ours:
        for sample in families[name].samples:
            assert (sample.labels["model_name"], sample.labels["revision"]) == ("toy", "canary-1")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say_of_a_busy_server(server: Server) -> None:
    def load() -> None:
        httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": _many(1200)}, timeout=120)
        httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": [5]}, timeout=120)

    work = threading.Thread(target=load)
    work.start()
    pages = []
    while work.is_alive():
        pages.append(httpx.get(f"{server.http}/metrics", timeout=60).text)
    work.join()
    for page in (pages[0], pages[len(pages) // 2], pages[-1]):
        ours = "".join(f"{line}\n" for line in page.splitlines() if "text_classifier_" in line)
        subprocess.run(["promtool", "check", "metrics"], input=ours, text=True, check=True)


def test_sigterm_under_load_loses_nothing_and_exits_clean(bundle: Path, tmp_path: Path) -> None:
    server = start_server(bundle, tmp_path / "log", "--cache-entries", "0", "--queue-tokens", "1000000")
    told = threading.Event()
    before: list[object] = []
    after: list[object] = []
    ready: list[int] = []

    def rest(client: httpx.Client, texts: int) -> object:
        try:
            return client.post(f"{server.http}/v1/models/toy:predict", json={"instances": _many(texts)}).status_code
        except httpx.TransportError as error:
            return error

    def rpc() -> object:
        contents = pb.InferTensorContents(bytes_contents=[text.encode() for text in _many(500)])
        tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[500], contents=contents)
        try:
            return len(stub.ModelInfer(pb.ModelInferRequest(model_name="toy", inputs=[tensor])).outputs)
        except grpc.RpcError as error:
            return error.code()

    def load(ask: Callable[[], object], good: object) -> None:
        answer = good
        while answer == good:
            sent = told.is_set()
            answer = ask()
            (after if sent else before).append(answer)

    def watch() -> None:
        while True:
            try:
                ready.append(httpx.get(f"{server.http}/v2/health/ready").status_code)
            except httpx.TransportError:
                return

    # Connections are kept from one request to the next; one request is of hundreds of batches.
    channel = grpc.insecure_channel(server.grpc)
    stub = GRPCInferenceServiceStub(channel)
    clients = [httpx.Client(timeout=120) for _ in range(6)]
    threads = [
        threading.Thread(target=load, args=(partial(rest, client, 500 if number else 3000), 200))
        for number, client in enumerate(clients)
    ]
    threads += [threading.Thread(target=load, args=(rpc, 2)) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(before) < 16:
        time.sleep(0.01)
    host, port = server.http.removeprefix("http://").split(":")
    half = socket.create_connection((host, int(port)))
    half.sendall(b"POST /v1/models/toy:predict HTTP/1.1\r\nhost: m\r\ncontent-length: 100\r\n\r\nhalf")
    while sum(_metric(server, "text_classifier_queue_texts").values()) < 2000:  # the large one: work for a while
        time.sleep(0.001)
    watching = threading.Thread(target=watch)
    watching.start()
    told.set()
    assert server.stop() == 0
    for thread in [*threads, watching]:
        thread.join()
    for client in clients:
        client.close()
    channel.close()
    assert half.recv(100).startswith(b"HTTP/1.1 503")  # it is told, and not waited for
    half.close()
    assert "Cancel" not in server.log.read_text()
    # What was sent before the signal is answered, or refused in words when it was read after it.
    assert set(before) <= {200, 2, 503, grpc.StatusCode.UNAVAILABLE}
    assert len(before) >= 16 and {200, 2} <= set(before)
    for answer in after:  # the listener may be closed by then
        assert answer in (200, 2, 503, grpc.StatusCode.UNAVAILABLE) or isinstance(answer, httpx.TransportError)
    assert ready == sorted(ready) and set(ready) | {200} == {
        200,
        503,
    }  # not ready as soon as it drains, and never again
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.http)
