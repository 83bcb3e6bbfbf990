"""A folder for results, which one command at a time writes to."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.running.stopping import outlived_by_nothing
from predictor.errors import InputError

LOCK_FILE = ".lock"


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold a folder, made where it is missing, until this process and all that it starts inside have ended.

    The kernel keeps the lock for an open file: it is gone with its holders, whatever ended them, and a network file
    system keeps it for other hosts, too. A folder that is empty at the end goes away, if it was made here.

    Raises:
        InputError: another process holds the folder, or it cannot be written.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = _locked(out)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error.strerror}): choose another folder") from error
    try:
        with outlived_by_nothing(lock):
            yield
    finally:
        (out / LOCK_FILE).unlink(missing_ok=True)
        os.close(lock)
        for folder in missing:
            with suppress(OSError):  # not empty
                folder.rmdir()


def _locked(out: Path) -> int:
    file = out / LOCK_FILE
    while True:
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(lock, file):
                os.truncate(lock, 0)
                os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
                return lock
        except BlockingIOError:
            holder = os.pread(lock, 200, 0).decode(errors="replace") or "another process"
            os.close(lock)
            raise InputError(
                f"--out {out} is in use by {holder}: wait until that and what it started have ended, or choose another "
                "folder"
            ) from None
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # whoever held it took it away meanwhile: others would lock a new file


def _is(lock: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), file.stat())
    except FileNotFoundError:
        return False
