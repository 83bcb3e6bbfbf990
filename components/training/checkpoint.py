"""What a killed training run needs to go on as if nothing had happened."""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import torch
from fsspec.implementations.local import LocalFileSystem

from predictor.errors import InputError


class Checkpoint:
    """One state of one training job, in a place that outlives its process.

    Args:
        root: a local folder or an fsspec URI such as `s3://bucket/checkpoints`; empty for no checkpoints.
        job: all that decides the job's result. Another job in the same root has a state of its own.
    """

    def __init__(self, root: str, job: Mapping[str, Any]) -> None:
        name = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]
        self._files: Any
        self._files, base = fsspec.core.url_to_fs(root) if root else (None, "")
        self.path = f"{base.rstrip('/')}/{name}.pt"

    def load(self) -> dict[str, Any] | None:
        """Return the last state saved, if there is one."""
        if self._files is None or not self._files.exists(self.path):
            return None
        with self._files.open(self.path, "rb") as stream:
            state: dict[str, Any] = torch.load(io.BytesIO(stream.read()), map_location="cpu", weights_only=True)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state; until the new one is whole, the old one stays.

        Raises:
            InputError: the place is full or cannot be written.
        """
        if self._files is None:
            return
        try:
            if isinstance(self._files, LocalFileSystem):
                self._save_local(state)
            else:  # object stores show a file only when all of it has arrived
                with self._files.open(self.path, "wb") as stream:
                    torch.save(state, stream)
        except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
            raise InputError(
                f"checkpoint {self.path} cannot be written ({error}): make room there and run again; "
                "training goes on from the checkpoint before it"
            ) from error

    def remove(self) -> None:
        """Forget the state: the job is done."""
        if self._files is not None and self._files.exists(self.path):
            self._files.rm_file(self.path)

    def _save_local(self, state: dict[str, Any]) -> None:
        target = Path(self.path)
        aside = target.with_suffix(".new")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as stream:
                torch.save(state, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)
