"""What one hostile caller costs everybody else: health's worst answer and the server's memory, request by request.

    make bench-bounds                                        # a bundle of the sample
    make bench-bounds BUNDLE=path/to/bundle

Each row starts a server afresh and sends it one kind of request, while health is asked ten times a second on a
connection of its own, by a process of its own. A row ends when its requests are answered, or after some seconds.
"""

import argparse
import http.client
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.benchmarks.serve import bundle_at
from tests.benchmarks.serving.load import get, post
from tests.benchmarks.serving.rounds import Peer, served
from tests.benchmarks.serving.servers import MODEL, OURS, Running, Setting
from tests.benchmarks.table import Row, publish, row

V1, V2 = f"/v1/models/{MODEL}:predict", f"/v2/models/{MODEL}/infer"
_HEALTH_MS = 100.0
_POD_MIB = 2048.0
_EVERY = 0.1
# As it is started by default: other benchmarks leave the cache out.
_CACHING = replace(OURS, command=lambda place, setting: OURS.command(place, setting)[:-2])
_BODY = 8 * 2**20 - 1000


def _watch(host: str, port: int, pid: int, events: "tuple[Event, Event]", told: "Queue[tuple[float, int]]") -> None:
    """Ask for health and look at memory all the while, in a process of its own, and tell the worst of both.

    An answer that is awaited at the end counts for as long as it has taken.
    """
    begun, over = events
    running = Running(OURS, host, port, pid)
    worst, peak = 0.0, 0
    while not over.is_set():
        started = time.perf_counter()
        try:
            connection = http.client.HTTPConnection(host, port, timeout=60)
            connection.request("GET", "/v2/health/live")
            connection.getresponse().read()
            connection.close()
        except OSError:
            pass
        if begun.is_set():  # not the first one, which imports
            worst = max(worst, time.perf_counter() - started)
        begun.set()
        peak = max(peak, running.resident)
        time.sleep(_EVERY)
    told.put((worst, peak))


Send = Callable[[Running, ExitStack], None]


def _http(*requests: Callable[[str], bytes], read: bool = True, times: int = 1) -> Send:
    """Return what sends each request on a connection of its own, and reads the answers, or keeps from it."""

    def send(running: Running, stack: ExitStack) -> None:
        made = [make(running.host) for make in requests]
        threads = [threading.Thread(target=_exchange, args=(running, stack, one, read)) for one in made * times]
        for thread in threads:
            thread.daemon = True
            thread.start()
        for thread in threads:
            thread.join(60)
        if not read:
            time.sleep(2)

    return send


def _exchange(running: Running, stack: ExitStack, request: bytes, read: bool) -> None:
    try:
        connection = stack.enter_context(socket.create_connection((running.host, running.port)))
        connection.sendall(request)
        while read and b"\r\n\r\n" not in connection.recv(65_536):
            pass
    except OSError:
        pass  # refused while it sends, or the row is over


def _json(path: str, body: bytes) -> Callable[[str], bytes]:
    return lambda host: post(host, path, body)


def _tensor(**more: object) -> dict[str, object]:
    return {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"], **more}


def _shapes() -> bytes:
    return json.dumps({"inputs": [_tensor(shape=[2**62] * 100_000)]}).encode()


def _tensors(count: int) -> Callable[[str], bytes]:
    def make(host: str) -> bytes:
        one = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 60}}
        head = json.dumps({"inputs": [one] * count}).encode()
        whole = post(host, V2, head + b"x" * (60 * count))
        return whole.replace(b"\r\n", b"\r\nInference-Header-Content-Length: %d\r\n" % len(head), 1)

    return make


def _rpc(running: Running, message: bytes, calls: int, channels: int = 1) -> None:
    """Send a message in many calls at a time, and wait for some seconds."""
    address = f"{running.host}:{_grpc_port(running)}"
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    opened = [grpc.insecure_channel(address, options=options) for _ in range(channels)]
    waiting = [
        opened[number % channels].unary_unary("/inference.GRPCInferenceService/ModelInfer").future(message, timeout=10)
        for number in range(calls)
    ]
    for call in waiting:
        call.exception()
    for channel in opened:
        channel.close()


def _grpc_port(running: Running) -> int:
    """Return the port that the server was started with."""
    import psutil

    command = psutil.Process(running.pid).cmdline()
    return int(command[command.index("--grpc-port") + 1])


def _infer(**tensor: object) -> bytes:
    asked = pb.ModelInferRequest.InferInputTensor(**{"name": "text", "datatype": "BYTES", "shape": [1], **tensor})
    return bytes(pb.ModelInferRequest(model_name=MODEL, inputs=[asked]).SerializeToString())


def _grpc(message: Callable[[], bytes], calls: int = 1, channels: int = 1) -> Send:
    return lambda running, stack: _rpc(running, message(), calls, channels)


def _many_texts(count: int) -> bytes:
    return b'{"instances": [%b"same text"]}' % (b'"same text",' * (count - 1))


def _unread(running: Running, stack: ExitStack) -> None:
    """Let 120 callers ask for long answers that they do not read, and look again when their time is over."""
    body = json.dumps({"instances": ["same text"] * 24_000, "parameters": {"top_k": 4}}).encode()
    _http(_json(V1, _many_texts(2)))(running, stack)
    for _ in range(24):
        _http(_json(V1, body), read=False, times=5)(running, stack)


CASES: dict[str, Send] = {
    "shape of 100,000 dimensions": _http(lambda host: post(host, V2, _shapes())),
    "shape of 40,000 dimensions, gRPC": _grpc(lambda: _infer(shape=[2**62] * 40_000)),
    "40,000 tensors": _http(_tensors(40_000)),
    "3 x 24,000 copies of a text": _http(_json(V1, _many_texts(24_000)), times=3),
    "131,000 copies of a text": _http(_json(V1, _many_texts(131_000))),
    "2 million instances": _http(_json(V1, b'{"instances": [%b"a"]}' % (b'"a",' * 2_000_000))),
    "2 million nested lists": _http(_json(V2, json.dumps({"inputs": [_tensor(data=[[]] * 2_000_000)]}).encode())),
    "600,000 names": _http(
        _json(V1, json.dumps({"instances": ["a"], "parameters": {f"{n:x}": 0 for n in range(600_000)}}).encode())
    ),
    "4 million tensors, gRPC": _grpc(lambda: b"\x2a\0" * (_BODY // 2)),
    "900,000 parameters, gRPC": _grpc(lambda: b"".join(b"\x22\x07\x0a\x05%05x" % number for number in range(900_000))),
    "390 calls of 8 MB, gRPC": _grpc(lambda: _infer(contents={"bytes_contents": [b"x" * _BODY]}), 390, 13),
    "120 callers that never read": _unread,
    "8,000 requests in one piece": _http(lambda host: get(host, "/v2/health/live") * 8000),
    "a header of 180 kB": _http(
        lambda host: get(host, "/").replace(b"\r\n\r\n", b"\r\nx: %b\r\n\r\n" % (b"x" * 180_000))
    ),
}


def _gently(send: Send, running: Running, stack: ExitStack) -> None:
    """Send in threads that leave the cores to the server: callers have machines of their own."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)  # of this thread, and of those it starts
    send(running, stack)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bundle", default="", help="a bundle; empty: one is trained on the sample")
    parser.add_argument("--seconds", type=float, default=40.0, help="the longest that a row takes")
    parser.add_argument("--only", default="", help="rows with this in their name")
    asked = parser.parse_args()
    bundle = bundle_at(asked.bundle)
    rows: list[Row] = []
    for name in (name for name in CASES if asked.only in name):
        worst, peak = _measured(CASES[name], bundle, asked.seconds)
        rows.append(row(f"{name}: worst health check", "ms", 1e3 * worst, goal=_HEALTH_MS, at_most=True))
        rows.append(row(f"{name}: peak memory", "MiB", peak / 2**20, goal=_POD_MIB, at_most=True))
        print(f"  {1e3 * worst:9.0f} ms {peak / 2**20:7.0f} MiB  {name}", flush=True)
    publish("bounds", rows)


def _measured(send: Send, bundle: Path, seconds: float) -> tuple[float, int]:
    """Return the worst health check in seconds, and the most bytes of memory."""
    spawn = get_context("spawn")
    begun, over, told = spawn.Event(), spawn.Event(), spawn.Queue()
    with served(Peer(_CACHING, Path(sys.executable), bundle, Setting())) as running, ExitStack() as stack:
        watch = spawn.Process(target=_watch, args=(running.host, running.port, running.pid, (begun, over), told))
        watch.start()
        begun.wait()
        time.sleep(1)
        sending = threading.Thread(target=_gently, args=(send, running, stack), daemon=True)
        sending.start()
        sending.join(seconds)
        over.set()
        worst: tuple[float, int] = told.get()
        watch.join()
        return worst


if __name__ == "__main__":
    main()
