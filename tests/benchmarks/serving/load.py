"""Load over HTTP/1.1, cheap enough to share two cores with the server that it drives.

One thread, one selector and request bytes made beforehand. `drive` is called in a process of its own.
"""

import re
import selectors
import socket
from collections import Counter, deque
from dataclasses import dataclass, field
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LATE = 60.0
_PROBE_EVERY = 0.1


@dataclass(frozen=True)
class Load:
    """What is sent, and how."""

    host: str
    port: int
    requests: list[bytes]
    """Whole HTTP requests, sent in turn, again from the first after the last."""
    connections: int
    seconds: float = 0.0
    """No request is sent after them; 0: each request is sent once."""
    rate: float = 0.0
    """Requests a second, sent when they are due whether or not others are answered; 0: each connection sends its next
    request when the one before is answered."""
    probe: bytes = b""
    """A request that is sent ten times a second on a connection of its own, such as one for health."""
    keep: bool = False
    """Bring the bodies of the answers."""


@dataclass(frozen=True)
class Outcome:
    """What came back."""

    latencies: NDArray[np.float64]
    """Seconds of each request answered with 200; at a given rate from when it was due, not from when it was sent."""
    numbers: NDArray[np.int64]
    """The place of each of these in `requests`."""
    probes: NDArray[np.float64]
    """Seconds of each probe answered with 200."""
    errors: dict[str, int]
    """Requests and probes by HTTP status, `reset` and `unanswered`."""
    seconds: float
    """From the start to the last answer."""
    client_cores: float
    """Cores that the client itself used."""
    bodies: dict[int, bytes]
    """By place in `requests`, if they were asked for."""

    @property
    def rate(self) -> float:
        """Requests answered a second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """Return the latency in seconds that this share of the requests keeps within; not a number without answers."""
        return float(np.quantile(self.latencies, share)) if len(self.latencies) else float("nan")


def post(host: str, path: str, body: bytes) -> bytes:
    """Return a whole request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(host: str, path: str) -> bytes:
    """Return a whole request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def drive(load: Load) -> Outcome:
    """Send the load and wait for its answers."""
    return _Driver(load).run()


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    number: int = -1
    """Place of the request that is under way; -1: none is."""
    since: float = 0.0
    got: bytearray = field(default_factory=bytearray)


class _Driver:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._selector = selectors.DefaultSelector()
        self._idle: list[_Connection] = []
        self._due: deque[float] = deque()
        self._scheduled = 0
        self._sent = 0
        self._under_way = 0
        self._answers: list[tuple[float, int]] = []
        self._probes: list[float] = []
        self._errors: Counter[str] = Counter()
        self._bodies: dict[int, bytes] = {}

    def run(self) -> Outcome:
        load = self._load
        self._idle = [self._open() for _ in range(load.connections)]
        self._prober = self._open() if load.probe else None
        started, cpu = perf_counter(), process_time()
        until = started + load.seconds if load.seconds else float("inf")
        last = next_probe = started
        while True:
            now = perf_counter()
            self._send(now, started, until)
            if self._prober and self._prober.number < 0 and next_probe <= now < until:
                self._ask(self._prober, 0, load.probe, now)
                next_probe = now + _PROBE_EVERY
            over = now >= until or (not load.seconds and self._sent == len(load.requests))
            if (over and not self._under_way and not self._due) or now > until + _LATE:
                break
            for key, _ in self._selector.select(self._pause(now, started, next_probe)):
                if self._read(key.data):
                    last = perf_counter()
        self._errors["unanswered"] += self._under_way + len(self._due)
        seconds = max(last - started, 1e-9)
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()
        return Outcome(
            np.array([latency for latency, _ in self._answers]),
            np.array([number for _, number in self._answers], dtype=np.int64),
            np.array(self._probes),
            {code: count for code, count in self._errors.items() if count},
            seconds,
            (process_time() - cpu) / (perf_counter() - started),
            self._bodies,
        )

    def _send(self, now: float, started: float, until: float) -> None:
        """Send what is due and has a free connection."""
        load = self._load
        if load.rate:
            while (due := started + self._scheduled / load.rate) <= now and due < until:
                self._due.append(due)
                self._scheduled += 1
        while self._idle and (self._due if load.rate else now < until):
            if not load.seconds and self._sent == len(load.requests):
                return
            number = self._sent % len(load.requests)
            self._sent += 1
            self._under_way += 1
            self._ask(self._idle.pop(), number, load.requests[number], self._due.popleft() if load.rate else now)

    def _pause(self, now: float, started: float, next_probe: float) -> float:
        """Return the seconds until something is to be sent."""
        wake = now + 0.5
        if self._load.rate:
            wake = min(wake, started + self._scheduled / self._load.rate)
        if self._prober and self._prober.number < 0:
            wake = min(wake, next_probe)
        return max(0.0, wake - now)

    def _open(self) -> _Connection:
        connected = socket.create_connection((self._load.host, self._load.port))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(connected)
        self._selector.register(connected, selectors.EVENT_READ, connection)
        return connection

    def _ask(self, connection: _Connection, number: int, request: bytes, since: float) -> None:
        connection.number, connection.since = number, since
        try:
            connection.socket.sendall(request)
        except OSError:
            self._broken(connection)

    def _read(self, connection: _Connection) -> bool:
        """Take what has come; say whether an answer is whole."""
        try:
            part = connection.socket.recv(1 << 18)
        except OSError:
            part = b""
        if not part:
            self._broken(connection)
            return False
        got = connection.got
        got += part
        end = got.find(b"\r\n\r\n")
        if end < 0:
            return False
        length = _LENGTH.search(got, 0, end)
        if length is None:
            raise RuntimeError(f"an answer has no content-length: {bytes(got[:end])!r}")
        whole = end + 4 + int(length[1])
        if len(got) < whole:
            return False
        code, body, closes = (
            bytes(got[9:12]),
            bytes(got[end + 4 : whole]),
            b"\r\nconnection: close" in got[:end].lower(),
        )
        seconds = perf_counter() - connection.since
        if code != b"200":
            self._errors[code.decode()] += 1
        elif connection is self._prober:
            self._probes.append(seconds)
        else:
            self._answers.append((seconds, connection.number))
            if self._load.keep:
                self._bodies[connection.number] = body
        del got[:whole]
        self._free(connection, closes)
        return connection is not self._prober

    def _broken(self, connection: _Connection) -> None:
        if connection.number >= 0:
            self._errors["reset"] += 1
        self._free(connection, closes=True)

    def _free(self, connection: _Connection, closes: bool) -> None:
        asked, connection.number = connection.number >= 0, -1
        if closes:
            self._selector.unregister(connection.socket)
            connection.socket.close()
        fresh = self._open() if closes else connection
        if connection is self._prober:
            self._prober = fresh
            return
        if asked:
            self._under_way -= 1
        elif closes:
            self._idle.remove(connection)
        self._idle.append(fresh)
