"""Requests that are read and refused: the right code, a sentence that helps, and nobody else is harmed."""

import json
import re
import socket
import threading
from typing import Any

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.conftest import SPORTS
from tests.predictor.conftest import Server
from tests.predictor.serving.asking import answers_grpc, answers_v1, answers_v2, ask_grpc, packed, tensor_of

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
    (b'{"instances": ["\\ud800"]}', "not JSON"),
    (b'{"instances": ' + b"[" * 100_000, "not JSON"),
    (b'{"instances": ["x"], "parameters": []}', "'parameters' is a JSON array"),
    (b'{"instances": ["x"], "parameters": {"top_k": 0}}', "top_k is 0"),
    (b'{"instances": ["x"], "parameters": {"timeout": "soon"}}', "timeout is 'soon'"),
]


@pytest.mark.parametrize(("body", "message"), V1_BAD, ids=[message for _, message in V1_BAD])
def test_bad_v1_requests_get_a_400_that_helps(server: Server, body: bytes, message: str) -> None:
    got = httpx.post(f"{server.http}/v1/models/toy:predict", content=body, headers={"content-type": "application/json"})
    assert got.status_code == 400, got.text
    assert re.search(message, got.json()["error"])
    assert answers_v1(server)


V2_BAD = [
    ({}, "inputs"),
    ({"inputs": []}, "input tensors none"),
    ({"inputs": [{**tensor_of(["x"]), "name": "body"}]}, "'body'"),
    ({"inputs": [tensor_of(["x"]), tensor_of(["x"])]}, "'text', 'text'"),
    ({"inputs": [{**tensor_of([1]), "datatype": "INT32"}]}, "datatype 'INT32'"),
    ({"inputs": [tensor_of([7])]}, "element 0 of input 'text' is a JSON number"),
    ({"inputs": [tensor_of(["x", None])]}, "element 1|inputs"),
    ({"inputs": [tensor_of(["x"], shape=[2])]}, "has 1 elements but shape"),
    ({"inputs": [tensor_of(["x"], shape=[-1])]}, "shape"),
    ({"inputs": [tensor_of(["x"], shape=[])]}, "shape"),
    ({"inputs": [tensor_of([], shape=[0])]}, "no texts"),
    ({"inputs": [tensor_of([""])]}, "text 0 is empty"),
    ({"inputs": [tensor_of(["x"])], "outputs": [{"name": "nope"}]}, "no output 'nope'"),
    ({"inputs": "x"}, "inputs"),
]


@pytest.mark.parametrize(("body", "message"), V2_BAD)
def test_bad_v2_requests_get_a_400_that_helps(server: Server, body: dict[str, Any], message: str) -> None:
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
        ask_grpc(server, pb.ModelInferRequest(model_name="toy", inputs=[tensor], raw_input_contents=raw))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


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
        got = httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": [SPORTS]}, timeout=60)
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
    assert answers_v1(server) == answers_v2(server)
    for connection in halves:
        connection.close()
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"\x00\xff nonsense\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert answers_v1(server) == answers_v2(server)


def test_a_connection_outlives_bad_requests(server: Server) -> None:
    with httpx.Client() as client:
        for body, _ in V1_BAD:
            assert client.post(f"{server.http}/v1/models/toy:predict", content=body).status_code == 400
            got = client.post(f"{server.http}/v1/models/toy:predict", json={"instances": [SPORTS]})
            assert got.json()["predictions"][0]["label"] == "Sports"


def test_a_grpc_message_over_the_limit_is_refused(server: Server) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    with pytest.raises(grpc.RpcError) as caught:
        raw = packed(["x" * 9_000_000])
        ask_grpc(server, pb.ModelInferRequest(model_name="toy", inputs=[tensor], raw_input_contents=[raw]))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert answers_grpc(server)


EMPTY = ["goal", "<p></p>", "cup", "\x00\x01", "\u200b\ufeff", " "]


def test_texts_that_cleaning_empties_are_named_over_every_rest_protocol(server: Server) -> None:
    raw = packed(EMPTY)
    binary = {"name": "text", "datatype": "BYTES", "shape": [6], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [binary]}).encode()
    asked: list[tuple[str, bytes, dict[str, str]]] = [
        ("v1/models/toy:predict", json.dumps({"instances": EMPTY}).encode(), {}),
        ("v2/models/toy/infer", json.dumps({"inputs": [tensor_of(EMPTY)]}).encode(), {}),
        ("v2/models/toy/infer", head + raw, {"inference-header-content-length": str(len(head))}),
    ]
    for path, body, headers in asked:
        got = httpx.post(f"{server.http}/{path}", content=body, headers=headers)
        sentence = "text 1 and 3 more are empty after cleaning: send only texts with words in them"
        assert (got.status_code, got.json()) == (400, {"error": sentence, "empty": [1, 3, 4, 5]})


def test_texts_that_cleaning_empties_are_named_over_grpc(server: Server) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[6])
    for raw in (False, True):
        request = pb.ModelInferRequest(model_name="toy", inputs=[tensor])
        if raw:
            request.raw_input_contents.append(packed(EMPTY))
        else:
            request.inputs[0].contents.bytes_contents.extend(text.encode() for text in EMPTY)
        with pytest.raises(grpc.RpcError) as caught:
            ask_grpc(server, request)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details().startswith("text 1 and 3 more are empty after cleaning")
        assert dict(caught.value.trailing_metadata())["empty-texts"] == "1,3,4,5"


def test_as_many_empty_texts_as_fit_are_named_in_grpcs_metadata(server: Server) -> None:
    texts = ["goal", *[""] * 3000]
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(texts)])
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    with pytest.raises(grpc.RpcError) as caught:
        ask_grpc(server, pb.ModelInferRequest(model_name="toy", inputs=[tensor]))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    named = dict(caught.value.trailing_metadata())["empty-texts"].split(",")
    assert named == [str(number) for number in range(1, 501)]
