"""A real Redis that a test starts, restarts, stops for a while and ends."""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.ports import free_port

MISSING = "" if shutil.which("redis-server") else "redis-server is not installed: apt-get install redis-server"


class RedisServer:
    """Keeps what it was told in a folder, as production should.

    Args:
        folder: where it keeps it.
        settings: more options of redis-server, such as maxmemory.
    """

    def __init__(self, folder: Path, *settings: str) -> None:
        self._folder = folder
        self._settings = settings
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        command += ["--appendonly", "yes", "--save", "", *self._settings]
        with (self._folder / "redis.log").open("a") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as asking:
                asking.sendall(b"PING\r\n")
                if asking.recv(100).startswith(b"+PONG"):
                    return
            time.sleep(0.05)
        raise AssertionError((self._folder / "redis.log").read_text())

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP and SIGCONT, to let it hang."""
        assert self._process
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it as a crash does: what it was told is on disk."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running(folder: Path, *settings: str) -> Iterator[RedisServer]:
    """Start a Redis and end it with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(folder, *settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()
