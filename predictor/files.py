"""Files and folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Yield a hidden path beside the target; the file or folder written there replaces the target at the end.

    Readers see the old content or all of the new. After an error the target is as before, and the hidden path is gone;
    only a kill leaves it behind. Several writers of one target do not disturb each other: the last one wins.

    Args:
        target: a file or a folder, there or not, in a folder that exists.

    Raises:
        OSError: the target cannot be replaced.
    """
    aside = _hidden_beside(target)
    try:
        yield aside
        replace(aside, target)
    finally:
        _remove(aside)


@contextmanager
def whole_and_synced(target: Path) -> Iterator[BinaryIO]:
    """Yield a stream to a file that appears as with `whole`, and only when it is on the disk; makes its folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as aside, aside.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def replace(source: Path, target: Path) -> None:
    """Move a file or folder to the target, in place of the file or folder that is there.

    A file replaces a file in one step, and never a folder. A folder replaces either, but for a moment neither is there.

    Args:
        source: what to move.
        target: where to, on the same file system.

    Raises:
        OSError: a folder is in the place of a file, or another process has just put one there.
    """
    if not source.is_dir():
        os.replace(source, target)
        return
    old = _hidden_beside(source)
    if target.exists():
        with suppress(FileNotFoundError):  # another process has just moved it away
            os.replace(target, old)
    try:
        os.replace(source, target)
    except OSError:
        with suppress(OSError):  # it was not there, or another process has put one there
            os.replace(old, target)
        raise
    finally:
        _remove(old)


def _hidden_beside(path: Path) -> Path:
    # The end of the name stays: some writers tell the kind of file by it.
    return path.with_name(f".{os.urandom(4).hex()}.{path.name.removeprefix('.')}")


def _remove(path: Path) -> None:
    """Remove what was left at the path, if anything; a leftover does no harm."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
