"""A real PostgreSQL that a test starts and ends."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.ports import free_port

USER = "desk"
_PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path())
"""Where Debian has them: not on the PATH."""
MISSING = "" if shutil.which("initdb", path=_PROGRAMS) else "PostgreSQL is not installed: apt-get install postgresql"


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Start an empty one, which has no passwords, and give the SQLAlchemy URL of its database."""
    # It refuses to run as root, and nobody else may look into the folders of root's tests.
    user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    other = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    folder, port = tempfile.mkdtemp(prefix="postgres-"), free_port()
    try:
        os.chown(folder, user.pw_uid, user.pw_gid)
        made = [_PROGRAMS / "initdb", "-D", folder, "-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(made, check=True, capture_output=True, cwd="/", **other)  # type: ignore[call-overload]
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
        server = subprocess.Popen(
            [_PROGRAMS / "postgres", "-D", folder, "-p", str(port), *settings],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **other,
        )  # type: ignore[call-overload]  # fmt: skip
        with server:
            try:
                _wait(port)
                yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres"
            finally:
                server.send_signal(signal.SIGINT)  # SIGTERM would wait for connections
    finally:
        shutil.rmtree(folder)


def _wait(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("PostgreSQL does not start")
