"""The load is what it says it is: all of it is sent, each answer is counted once, and by its code."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.serving.load import Load, Outcome, drive, get, post
from tests.benchmarks.serving.rounds import Lone, Measured
from tests.benchmarks.serving.rows import Goals, against_peers, one_client, with_cascade
from tests.benchmarks.serving.servers import elsewhere
from tests.benchmarks.table import Row
from tests.benchmarks.work import Shape


@contextmanager
def service(answer: Callable[[bytes], int]) -> Iterator[tuple[int, Counter[bytes]]]:
    """Serve on a port, echoing bodies; `answer` says the status, 0 to hang up."""
    seen: Counter[bytes] = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen[body] += 1
            status = answer(body)
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            seen[self.path.encode()] += 1
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, seen
        finally:
            server.shutdown()
            thread.join()


def requests(*bodies: bytes) -> list[bytes]:
    return [post("127.0.0.1", "/", body) for body in bodies]


def test_without_a_time_each_request_is_sent_once_and_its_body_is_brought() -> None:
    bodies = [b"%d" % number * (number + 1) for number in range(50)]
    with service(lambda body: 200) as (port, seen):
        got = drive(Load("127.0.0.1", port, requests(*bodies), 7, keep=True))
    assert seen == Counter(bodies)
    assert got.bodies == dict(enumerate(bodies))
    assert sorted(got.numbers) == list(range(50))
    assert not got.errors


def test_a_refusal_is_counted_by_its_code_and_is_no_answer() -> None:
    with service(lambda body: 429 if body == b"much" else 200) as (port, _):
        got = drive(Load("127.0.0.1", port, requests(b"a", b"much", b"b"), 1))
    assert got.errors == {"429": 1}
    assert got.numbers.tolist() == [0, 2]


def test_a_connection_that_is_lost_is_counted_and_made_again() -> None:
    with service(lambda body: 0 if body == b"bad" else 200) as (port, _):
        got = drive(Load("127.0.0.1", port, requests(b"a", b"bad", b"b"), 1))
    assert got.errors == {"reset": 1}
    assert got.numbers.tolist() == [0, 2]


def test_at_a_rate_requests_are_sent_when_due_and_latency_counts_from_then() -> None:
    held = threading.Event()

    def answer(body: bytes) -> int:
        held.wait(0.5)
        held.set()
        return 200

    with service(answer) as (port, seen):
        got = drive(Load("127.0.0.1", port, requests(b"a"), 1, seconds=0.4, rate=50))
    assert seen[b"a"] == len(got.latencies) == 20
    # One after the other over one connection: counted from when they were sent, the waits would add up to the whole
    # time; counted from when they were due, they overlap.
    assert sum(got.latencies) > got.seconds


def test_probes_are_counted_apart() -> None:
    with service(lambda body: 200) as (port, seen):
        got = drive(Load("127.0.0.1", port, requests(b"a"), 2, seconds=0.3, probe=get("127.0.0.1", "/health")))
    assert len(got.probes) == seen[b"/health"] > 0
    assert len(got.latencies) == seen[b"a"]


def test_single_texts_are_compared_with_the_engines_usual_time_for_the_same_text() -> None:
    bare = np.array([[1.0, 10.0], [1.0, 10.0], [4.0, 10.0]])  # once the machine was busy
    median, p99, seconds = one_client(Lone(np.array([[1.5, 12.0]] * 3), bare))
    assert [median.ours, p99.ours, p99.peer, seconds.ours] == pytest.approx([1.35, 1.5, 3.85, 12_000]) and p99.met


def measured(rate: float, p99: float) -> Measured:
    """A round of a server that answers at a rate, and in which one request in fifty takes a time."""
    seconds = np.array([p99 / 10] * 98 + [p99] * 2)
    outcome = Outcome(seconds, np.arange(100), np.array([0.01]), {}, 100 / rate, 0.1, {})
    return Measured(outcome, outcome, outcome, outcome, outcome, 2**20)


def test_the_ratio_to_a_peer_is_the_median_of_rounds_with_the_goal_of_its_kind() -> None:
    mine = [measured(rate, 0.1) for rate in (50, 30, 900)]
    peer = {"peer": [measured(rate, 0.5) for rate in (10, 10, 10)]}
    goals = Goals(many=4, calls=6, cascade=5.5, p99=0.15, peak=0.4, int8=1)

    def seen(rows: list[Row]) -> dict[str, tuple[Any, bool | None]]:
        return {each.metric: (pytest.approx(each.value), each.met) for each in rows if each.goal and each.peer_name}

    assert seen(against_peers(peer, mine, goals)) == {
        "32 clients, one text a call": (5, True),
        "32 clients, p99": (0.2, False),
        "64 texts a call": (5, False),
    }
    assert seen(with_cascade(peer, mine, goals)) == {
        "32 clients, one text a call, with the cascade": (5, False),
        "32 clients, p99, with the cascade": (0.2, False),
        "64 texts a call, with the cascade": (5, False),
    }


def test_a_text_of_53_tokens_is_so_many_operations(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}')
    shape = Shape.of(tmp_path)
    assert round(shape.every_token(53) / 1e9, 2) == 1.15
    assert shape.first_token(1) == shape.every_token(1)
    assert 0.85 < shape.first_token(53) / shape.every_token(53) < 0.9


def test_an_address_says_its_protocol() -> None:
    asked = elsewhere("http://localhost:8080/v2/models/other/infer")
    assert (asked.host, asked.port, asked.server.path) == ("localhost", 8080, "/v2/models/other/infer")
    assert b'"name":"text"' in asked.requests([["hello"]])[0]
