"""What comes over a socket and is no request of ours: a sentence for the caller, and the next request as before."""

import gzip
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from grpc import StatusCode
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.conftest import SPORTS
from tests.predictor.conftest import Server

GOOD = b'{"instances": ["%b"]}' % SPORTS.encode()
V1, V2 = b"/v1/models/toy:predict", b"/v2/models/toy/infer"
Tensor = pb.ModelInferRequest.InferInputTensor


def post(path: bytes, body: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = [b"POST %b HTTP/%b" % (path, version), b"host: m", *headers]
    if not any(header.startswith((b"content-length", b"transfer-encoding")) for header in headers):
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def said(server: Server, sent: bytes) -> list[tuple[int, dict[str, str], Any]]:
    """Send bytes and read answers until the server closes, which the last request here asks for."""
    host, port = server.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(sent)
        raw = b""
        while part := connection.recv(65_536):
            raw += part
    answers = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines)
        size = int(headers["content-length"])
        answers.append((int(first.split()[1]), headers, json.loads(rest[:size])))
        raw = rest[size:]
    return answers


@pytest.fixture(scope="module", params=["server", "cascade_server"], ids=["transformer", "cascade"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture(autouse=True)
def the_next_request_is_answered_as_before(server: Server) -> Iterator[None]:
    def answer() -> Any:
        rest = httpx.post(f"{server.http}{V1.decode()}", content=GOOD, timeout=60).json()
        asked = Tensor(name="text", datatype="BYTES", shape=[1])
        asked.contents.bytes_contents.append(b"goal cup striker")
        return rest, called(server, pb.ModelInferRequest(model_name="toy", inputs=[asked])).outputs[0]

    before = answer()
    yield
    assert answer() == before
    assert "Traceback" not in server.log.read_text()


CLOSE = b"connection: close"
HUGE = b"x" * 1_000_000
BAD_HTTP = [
    (post(V1, gzip.compress(b" " * 10_000_000), b"content-encoding: gzip", CLOSE), 415, "content-encoding gzip"),
    (post(V1, GOOD, b"content-length: -5"), 400, "not HTTP/1.1"),
    (post(V1, GOOD, b"content-length: 35, 36"), 400, "not HTTP/1.1"),
    (post(V1, GOOD, b"content-length: 35", b"transfer-encoding: chunked"), 400, "not HTTP/1.1"),
    (post(V1, b"zz\r\n", b"transfer-encoding: chunked"), 400, "not HTTP/1.1"),
    (post(V1, GOOD, b"x-nul: a\x00b"), 400, "not HTTP/1.1"),
    (post(b"/\xff\xfe", GOOD), 400, "not HTTP/1.1"),
    (post(b"no path", GOOD), 400, "not HTTP/1.1"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100, 400, "not HTTP/1.1"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "not HTTP/1.1"),
    (b"GET / HTTP/1.1\r\nx-long: " + HUGE, 431, "longer than 65536 bytes"),
    (b"GET /" + HUGE, 431, "send texts in the body"),
    (b"GET " + V1 + b" HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n", 405, "send a POST"),
    (b"PUT " + V2 + b" HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n", 405, "send a POST"),
    (b"GET /nowhere HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n", 404, "GET /nowhere is not served: /docs"),
    (b"DELETE /metrics HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n", 405, "DELETE /metrics is not served"),
    (post(b"/" + b"a" * 30_000, GOOD, CLOSE), 404, "nothing is served at /aaaa"),
    (post(b"/v1/models/toy:train", GOOD, CLOSE), 404, "POST to /v1/models/toy:predict"),
    (post(b"/v2/models/toy/versions/1/infer", GOOD, CLOSE), 404, "POST to /v1/models/toy:predict"),
    (post(b"/v1/models/%E7%90%83:predict", GOOD, CLOSE), 404, "球"),
    (post(V1, b'{"instances": [1e999]}', CLOSE), 400, "not JSON"),
    (post(V1, b'{"instances": [NaN]}', CLOSE), 400, "not JSON"),
    (post(V1, b"<text>goal</text>", b"content-type: text/xml", CLOSE), 400, 'send {"instances": '),
    (post(V1, '{"instances": ["ball"]}'.encode("utf-16"), CLOSE), 400, "not JSON"),
    (post(V1, b'{"instances": ["\\udc00\\ud800"]}', CLOSE), 400, "not JSON"),
    (post(V1, GOOD, b"x-envoy-expected-rq-timeout-ms: soon", CLOSE), 400, "send milliseconds"),
    (post(V2, b'{"inputs": ' + b"[" * 1000 + b"]" * 1000 + b"}", CLOSE), 400, "no list 'inputs' of tensors"),
    (post(V2, b"{}", b"inference-header-content-length: 3", CLOSE), 400, "the body has 2 bytes"),
]


# Named by what is answered: what is sent is long, and gzip writes the time into it.
@pytest.mark.parametrize(("sent", "status", "sentence"), BAD_HTTP, ids=[f"{case[1]} {case[2]}" for case in BAD_HTTP])
def test_bad_http_gets_a_sentence(server: Server, sent: bytes, status: int, sentence: str) -> None:
    ((got, headers, body),) = said(server, sent)
    assert got == status and sentence in body["error"]
    assert len(body["error"]) < 400 and not re.search(r"\n|Error\b|\.py|0x", body["error"])
    assert headers["content-type"] == "application/json" and headers["connection"] == "close"
    if status == 405:
        assert headers["allow"] in ("post", "get")


def tensor(**more: Any) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["x"], **more}


BAD_V2 = [
    ({"inputs": [tensor(shape=[2**62, 4])]}, "has 1 elements but shape"),
    ({"inputs": [tensor(shape=[1.5])]}, r"shape \[1.5\]"),
    ({"inputs": [tensor(shape="1")]}, "shape '1'"),
    ({"inputs": [tensor(datatype=None)]}, "datatype None"),
    ({"inputs": [tensor(data={"0": "x"})]}, "JSON object: send a list"),
    ({"inputs": [tensor(data=None)]}, "JSON null: send a list"),
    ({"inputs": [tensor(parameters=[])]}, "'parameters' is a JSON array"),
    ({"inputs": [tensor(parameters={"binary_data_size": 9})]}, "binary_data_size is 9 and 0 bytes follow"),
    ({"inputs": [tensor()], "id": 5}, "'id' is a JSON number"),
    ({"inputs": [tensor()], "outputs": 0}, "'outputs' is no list"),
    ({"inputs": [tensor()], "outputs": [{}]}, "an output has the name None"),
    (
        {"inputs": [tensor()], "outputs": [{"name": "label", "parameters": {"binary_data": "no"}}]},
        "binary_data is 'no': send true or false",
    ),
    ({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}, "binary_data_output is 1"),
    ({"inputs": [tensor()], "parameters": {"top_k": True}}, "top_k is True"),
]


@pytest.mark.parametrize(("body", "sentence"), BAD_V2)
def test_bad_v2_gets_a_sentence(server: Server, body: Any, sentence: str) -> None:
    got = httpx.post(f"{server.http}{V2.decode()}", json=body, timeout=60)
    assert got.status_code == 400 and re.search(sentence, got.json()["error"])


def test_an_older_and_an_eager_client_are_answered_in_order(server: Server) -> None:
    ((status, _, body),) = said(server, post(V1, GOOD, version=b"1.0"))
    assert status == 200 and body["predictions"][0]["label"] == "Sports"
    chunked = b"5\r\n" + GOOD[:5] + b"\r\n%x\r\n" % (len(GOOD) - 5) + GOOD[5:] + b"\r\n0\r\n\r\n"
    sent = post(V1, GOOD) + post(V1, b"{}") + post(V1, chunked, b"transfer-encoding: chunked") + post(V1, GOOD, CLOSE)
    assert [status for status, _, _ in said(server, sent)] == [200, 400, 200, 200]


def test_nul_and_other_control_characters_are_dropped(server: Server) -> None:
    def asked(text: str) -> Any:
        return httpx.post(f"{server.http}{V1.decode()}", json={"instances": [text]}, timeout=60).json()["predictions"]

    assert asked("goal\0 cup\x07 \x1bstriker") == asked("goal cup striker")


def called(server: Server, request: Any, method: str = "ModelInfer") -> Any:
    with grpc.insecure_channel(server.grpc) as channel:
        return getattr(GRPCInferenceServiceStub(channel), method)(request, timeout=60)


def inference(model: str = "toy", **tensor: Any) -> pb.ModelInferRequest:
    contents = pb.InferTensorContents(**tensor.pop("contents", {"bytes_contents": [b"goal"]}))
    asked = Tensor(**{"name": "text", "datatype": "BYTES", "shape": [1], **tensor}, contents=contents)
    return pb.ModelInferRequest(model_name=model, inputs=[asked])


def changed(**more: Any) -> pb.ModelInferRequest:
    request = inference()
    request.MergeFrom(pb.ModelInferRequest(**more))
    return request


BAD_GRPC = [
    (inference("other"), "NOT_FOUND", "other"),
    (inference(datatype="STRING"), "INVALID_ARGUMENT", "datatype 'STRING': send BYTES"),
    (inference(datatype="INT64", contents={"int64_contents": [7]}), "INVALID_ARGUMENT", "datatype 'INT64': send BYTES"),
    (inference(contents={"int_contents": [7]}), "INVALID_ARGUMENT", "has 0 elements but shape"),
    (inference(contents={"fp32_contents": [7.0]}), "INVALID_ARGUMENT", "has 0 elements but shape"),
    (inference(contents={"bytes_contents": [b"\xff"]}), "INVALID_ARGUMENT", "text 0 is not UTF-8"),
    (inference(contents={"bytes_contents": [b" \n"]}), "INVALID_ARGUMENT", "text 0 is empty"),
    (inference(shape=[]), "INVALID_ARGUMENT", "send the number of texts"),
    (inference(shape=[-1]), "INVALID_ARGUMENT", "send the number of texts"),
    (inference(shape=[0], contents={}), "INVALID_ARGUMENT", "no texts"),
    (pb.ModelInferRequest(model_name="toy"), "INVALID_ARGUMENT", "input tensors none"),
    (changed(inputs=[Tensor(name="text", datatype="BYTES")]), "INVALID_ARGUMENT", "input tensors 'text', 'text'"),
    (changed(raw_input_contents=[b"\x01\0\0\0x"]), "INVALID_ARGUMENT", "send one of them"),
    (changed(outputs=[{"name": "nope"}]), "INVALID_ARGUMENT", "no output 'nope'"),
    (changed(parameters={"top_k": {"string_param": "2"}}), "INVALID_ARGUMENT", "top_k is '2'"),
    (changed(parameters={"timeout": {"int64_param": -1}}), "INVALID_ARGUMENT", "timeout is -1"),
    (changed(parameters={"timeout": {"int64_param": 1}}), "DEADLINE_EXCEEDED", "no answer within 1e-06 s"),
]


@pytest.mark.parametrize(("request_", "code", "sentence"), BAD_GRPC)
def test_bad_grpc_gets_a_sentence(server: Server, request_: pb.ModelInferRequest, code: str, sentence: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        called(server, request_)
    assert caught.value.code() == StatusCode[code] and sentence in caught.value.details()
    assert len(caught.value.details()) < 400 and "\n" not in caught.value.details()


def test_grpc_tells_of_the_model_and_of_no_other(server: Server) -> None:
    told = called(server, pb.ModelMetadataRequest(name="toy"), "ModelMetadata")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in told.inputs] == [("text", "BYTES", [-1])]
    assert [tensor.name for tensor in told.outputs][:2] == ["label", "confidence"]
    assert called(server, pb.ModelReadyRequest(name="toy"), "ModelReady").ready
    assert called(server, pb.ServerReadyRequest(), "ServerReady").ready
    for method, request in (
        ("ModelMetadata", pb.ModelMetadataRequest(name="other")),
        ("ModelReady", pb.ModelReadyRequest(name="other")),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            called(server, request, method)
        assert caught.value.code() == StatusCode.NOT_FOUND and "other" in caught.value.details()
