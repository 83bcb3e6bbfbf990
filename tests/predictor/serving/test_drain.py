"""The end of a server under load."""

import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.predictor.conftest import start_server
from tests.predictor.serving.asking import many, metric


def test_sigterm_under_load_loses_nothing_and_exits_clean(bundle: Path, tmp_path: Path) -> None:
    server = start_server(bundle, tmp_path / "log", "--cache-entries", "0", "--queue-tokens", "1000000")
    told = threading.Event()
    before: list[object] = []
    after: list[object] = []
    ready: list[int] = []

    def rest(client: httpx.Client, texts: int) -> object:
        try:
            return client.post(f"{server.http}/v1/models/toy:predict", json={"instances": many(texts)}).status_code
        except httpx.TransportError as error:
            return error

    def rpc() -> object:
        contents = pb.InferTensorContents(bytes_contents=[text.encode() for text in many(500)])
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
    while sum(metric(server, "text_classifier_queue_texts").values()) < 2000:  # the large one: work for a while
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
