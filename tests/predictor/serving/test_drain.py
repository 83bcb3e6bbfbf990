"""The end of a server under load."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.predictor.conftest import Server, serving
from tests.predictor.serving.asking import many, metric

REFUSED = {503, grpc.StatusCode.UNAVAILABLE}


def _rest(client: httpx.Client, server: Server, texts: int) -> object:
    try:
        return client.post(f"{server.http}/v1/models/toy:predict", json={"instances": many(texts)}).status_code
    except httpx.TransportError as error:
        return error


def _rpc(stub: GRPCInferenceServiceStub) -> object:
    contents = pb.InferTensorContents(bytes_contents=[text.encode() for text in many(500)])
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[500], contents=contents)
    try:
        return len(stub.ModelInfer(pb.ModelInferRequest(model_name="toy", inputs=[tensor])).outputs)
    except grpc.RpcError as error:
        return error.code()


@dataclass
class Load:
    """Callers that ask until they get no good answer: 200 over REST, two outputs over gRPC."""

    signalled: threading.Event = field(default_factory=threading.Event)
    """Set when the server is about to get its signal."""
    before: list[object] = field(default_factory=list)
    """Answers to what was sent before the signal."""
    after: list[object] = field(default_factory=list)

    def go_on(self, ask: Callable[[], object], good: object) -> None:
        answer = good
        while answer == good:
            late = self.signalled.is_set()
            answer = ask()
            (self.after if late else self.before).append(answer)


@contextmanager
def _under_load(server: Server) -> Iterator[Load]:
    """Let six REST callers and two gRPC ones ask, and wait for the last of them at the end."""
    # Connections are kept from one request to the next; one request is of hundreds of batches.
    load, clients = Load(), [httpx.Client(timeout=120) for _ in range(6)]
    with grpc.insecure_channel(server.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        asks: list[tuple[Callable[[], object], object]] = [
            (partial(_rest, client, server, 500 if number else 3000), 200) for number, client in enumerate(clients)
        ]
        asks += [(partial(_rpc, stub), 2)] * 2
        threads = [threading.Thread(target=load.go_on, args=ask) for ask in asks]
        for thread in threads:
            thread.start()
        yield load
        for thread in threads:
            thread.join()
    for client in clients:
        client.close()


@contextmanager
def _watching_readiness(server: Server) -> Iterator[list[int]]:
    """Ask for readiness until nobody answers."""
    seen: list[int] = []

    def watch() -> None:
        while True:
            try:
                seen.append(httpx.get(f"{server.http}/v2/health/ready").status_code)
            except httpx.TransportError:
                return

    watching = threading.Thread(target=watch)
    watching.start()
    yield seen
    watching.join()


def _half_a_request(server: Server) -> socket.socket:
    host, port = server.http.removeprefix("http://").split(":")
    half = socket.create_connection((host, int(port)))
    half.sendall(b"POST /v1/models/toy:predict HTTP/1.1\r\nhost: m\r\ncontent-length: 100\r\n\r\nhalf")
    return half


def test_sigterm_under_load_loses_nothing_and_exits_clean(bundle: Path, tmp_path: Path) -> None:
    options = ("--cache-entries", "0", "--queue-tokens", "1000000")
    with serving(bundle, tmp_path / "log", *options) as server, _under_load(server) as load:
        while len(load.before) < 16:
            time.sleep(0.01)
        half = _half_a_request(server)
        while sum(metric(server, "text_classifier_queue_texts").values()) < 2000:  # the large one: work for a while
            time.sleep(0.001)
        with _watching_readiness(server) as ready:
            load.signalled.set()
            assert server.stop() == 0
    assert half.recv(100).startswith(b"HTTP/1.1 503")  # refused, and not waited for
    half.close()
    assert "Cancel" not in server.log.read_text()
    # What was sent before the signal is answered, or refused in words when it was read after it.
    assert set(load.before) <= {200, 2} | REFUSED
    assert len(load.before) >= 16 and {200, 2} <= set(load.before)
    for answer in load.after:  # the listener may be closed by then
        assert answer in {200, 2} | REFUSED or isinstance(answer, httpx.TransportError)
    assert ready == sorted(ready) and set(ready) | {200} == {200, 503}  # not ready while it drains, and never again
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.http)
