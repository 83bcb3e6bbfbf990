"""What a killed training run needs to go on as if nothing had happened."""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
import torch
from fsspec.implementations.local import LocalFileSystem

from components.platform.progress import say
from predictor.errors import InputError, one_line


class Checkpoint:
    """One state of one training job, in a place that outlives its process.

    Each state goes into a file of its own, `NAME.NUMBER.pt`, and only then the one before it goes away. So whatever
    ends the writing, a whole state stays: fsspec publishes a file that an error or a signal closes, cut off as it is.

    Args:
        root: a local folder or an fsspec URI such as `s3://bucket/checkpoints`; empty for no checkpoints.
        job: all that decides the job's result. Another job in the same root has a state of its own.

    Raises:
        InputError: the place cannot be used at all.
    """

    def __init__(self, root: str, job: Mapping[str, Any]) -> None:
        self._name = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]
        self._root, self._base = root, ""
        self._files: Any = None
        if root:
            with self._readable():
                self._files, base = fsspec.core.url_to_fs(root)
                self._base = base.rstrip("/")

    def load(self) -> dict[str, Any] | None:
        """Return the last state saved, if there is one; what cannot be read is none.

        Raises:
            InputError: the place cannot be read.
        """
        with self._readable():
            for path in reversed(self._saved()):
                content = io.BytesIO(self._files.cat_file(path))
                try:
                    state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
                except Exception as error:  # torch has many for a file that is cut off or is none of its own
                    say(f"checkpoint {path} is left out, since it cannot be read ({type(error).__name__})")
                else:
                    return state
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state; until the new one is whole, the old one stays.

        Raises:
            InputError: the place is full or cannot be written.
        """
        if self._files is None:
            return
        path = self._base
        try:
            before = self._saved()
            path = f"{self._base}/{self._name}.{self._number(before[-1]) + 1 if before else 1}.pt"
            self._write(path, state)
        except Exception as error:  # each kind of storage has its own; torch turns a full disk into a RuntimeError
            reason = one_line(error)
            raise InputError(
                f"checkpoint {path} cannot be written ({reason}): make room there and run again; "
                "training goes on from the checkpoint before it"
            ) from error
        self._forget(before)

    def remove(self) -> None:
        """Forget the state: the job is done."""
        if self._files is not None:
            with suppress(Exception):  # leftovers are no reason to lose a model
                self._forget(self._saved())

    def _write(self, path: str, state: dict[str, Any]) -> None:
        self._files.makedirs(self._base, exist_ok=True)
        try:
            if isinstance(self._files, LocalFileSystem):
                with Path(path).open("wb") as stream:
                    torch.save(state, stream)
                    stream.flush()
                    os.fsync(stream.fileno())
            else:
                with self._files.open(path, "wb") as stream:
                    torch.save(state, stream)
        except BaseException:
            self._forget([path])
            raise

    def _saved(self) -> list[str]:
        """Return the paths of all states, the latest last."""
        if self._files is None:
            return []
        self._files.invalidate_cache()  # some storages remember for long what there was
        try:
            names = self._files.ls(self._base, detail=False)
        except FileNotFoundError:
            return []
        return sorted((str(name) for name in names if self._number(str(name))), key=self._number)

    def _number(self, path: str) -> int:
        """Return a state's number, 0 for what is none of this job."""
        name, _, rest = path.rpartition("/")[2].partition(".")
        number = rest.removesuffix(".pt")
        return int(number) if name == self._name and rest.endswith(".pt") and number.isdecimal() else 0

    def _forget(self, paths: list[str]) -> None:
        for path in paths:
            with suppress(Exception):  # the next one replaces it; the error that led here matters more
                self._files.rm_file(path)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = one_line(error)
            raise InputError(
                f"checkpoints under {self._root} cannot be read ({type(error).__name__}: {reason}): look at the "
                "address, at its credentials, and whether the fsspec driver for it is installed (s3fs, gcsfs, adlfs)"
            ) from error
