"""Checkpoints, from which a killed training run resumes with the same result as an uninterrupted one."""

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

    Each state is written to a new file, `NAME.NUMBER.pt`, before the previous one is deleted. So a complete state stays
    whatever interrupts the writing: fsspec publishes a file that an error or a signal closes, truncated as it is.

    Args:
        root: a local folder or an fsspec URI such as `s3://bucket/checkpoints`; empty for no checkpoints.
        job: all that decides the job's result. Another job in the same root has its own files.

    Raises:
        InputError: the place cannot be used at all.
    """

    def __init__(self, root: str, job: Mapping[str, Any]) -> None:
        self._name = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]
        self._root, self._base = root, ""
        self._files: Any = None
        if root:
            with self._read_errors():
                self._files, base = fsspec.core.url_to_fs(root)
                self._base = base.rstrip("/")

    def load(self) -> dict[str, Any] | None:
        """Return the last saved state, None if there is none; files that cannot be read are skipped.

        Raises:
            InputError: the place cannot be read.
        """
        with self._read_errors():
            for path in reversed(self._saved()):
                content = io.BytesIO(self._files.cat_file(path))
                try:
                    state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
                except Exception as error:  # torch raises many kinds for a truncated or foreign file
                    say(f"checkpoint {path} is skipped, since it cannot be read ({type(error).__name__})")
                else:
                    return state
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state; the old one stays until the new one is complete.

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
        except Exception as error:  # each storage has its own; torch turns a full disk into a RuntimeError
            reason = one_line(error)
            raise InputError(
                f"checkpoint {path} cannot be written ({reason}): make room there and run again; "
                "training goes on from the checkpoint before it"
            ) from error
        self._delete(before)

    def remove(self) -> None:
        """Delete the state: the job is done."""
        if self._files is not None:
            with suppress(Exception):  # leftovers are no reason to lose a model
                self._delete(self._saved())

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
            self._delete([path])
            raise

    def _saved(self) -> list[str]:
        """Return the paths of all states, the latest last."""
        if self._files is None:
            return []
        self._files.invalidate_cache()  # some file systems cache listings for long
        try:
            names = self._files.ls(self._base, detail=False)
        except FileNotFoundError:
            return []
        return sorted((str(name) for name in names if self._number(str(name))), key=self._number)

    def _number(self, path: str) -> int:
        """Return a state's number, 0 for a file that is not of this job."""
        name, _, rest = path.rpartition("/")[2].partition(".")
        number = rest.removesuffix(".pt")
        return int(number) if name == self._name and rest.endswith(".pt") and number.isdecimal() else 0

    def _delete(self, paths: list[str]) -> None:
        for path in paths:
            with suppress(Exception):  # the next state replaces it; an error that led here matters more
                self._files.rm_file(path)

    @contextmanager
    def _read_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = one_line(error)
            raise InputError(
                f"checkpoints under {self._root} cannot be read ({type(error).__name__}: {reason}): look at the "
                "address, at its credentials, and whether the fsspec driver for it is installed (s3fs, gcsfs, adlfs)"
            ) from error
