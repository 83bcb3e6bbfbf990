"""A lock on the results folder, so that one command at a time writes to it."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.running.stopping import no_orphans
from predictor.errors import InputError

LOCK_FILE = ".lock"


@contextmanager
def locked_folder(out: Path) -> Iterator[None]:
    """Create a folder if it is missing, and lock it until this process and all that it starts inside have exited.

    The lock belongs to an open file: the kernel releases it when the last process that has the file open exits, even by
    SIGKILL, and a network file system enforces it across hosts. Folders created here are removed if they end up empty.

    Raises:
        InputError: another process has locked the folder, or it cannot be written.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = _lock(out)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error.strerror}): choose another folder") from error
    try:
        with no_orphans(lock):
            yield
    finally:
        (out / LOCK_FILE).unlink(missing_ok=True)
        os.close(lock)
        for folder in missing:
            with suppress(OSError):  # not empty
                folder.rmdir()


def _lock(out: Path) -> int:
    file = out / LOCK_FILE
    while True:
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same_file(lock, file):
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
        os.close(lock)  # its last holder deleted the file meanwhile, so the next process would lock a new one


def _same_file(lock: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), file.stat())
    except FileNotFoundError:
        return False
