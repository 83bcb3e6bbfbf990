"""The folder of a batch, on this machine or in object storage, in which files appear whole or not at all."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.platform.storage import download, is_remote, names_under, read_text, storage_at, write_text
from predictor.errors import InputError, one_line
from predictor.files import whole


class Store:
    """A folder of files.

    Args:
        place: a local path or an fsspec URI.
    """

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")
        self._folder = None if is_remote(place) else Path(place)

    def where(self, name: str) -> str:
        """Return the address of a file, for people."""
        return f"{self.place}/{name}"

    def names(self, folder: str) -> set[str]:
        """Return the names of the files in a folder, without those that are being written."""
        if self._folder is not None:
            found = self._folder / folder
            names = {file.name for file in found.iterdir()} if found.is_dir() else set()
        else:
            names = names_under(self.where(folder))
        return {name for name in names if not name.startswith(".") and not name.endswith(".new")}

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """Yield a file of this machine with the content.

        Raises:
            InputError: it is not there, or cannot be read.
        """
        if self._folder is not None:
            if not (self._folder / name).is_file():
                raise InputError(f"{self.where(name)} is missing: score into another folder, or remove this one")
            yield self._folder / name
            return
        files, path = storage_at(self.where(name))
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / Path(name).name
            try:
                files.get_file(path, str(copy))
            except Exception as error:  # every driver has its own exceptions
                raise InputError(
                    f"{self.where(name)} cannot be read ({one_line(error)}): look at the storage"
                ) from error
            yield copy

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield where to write; at the end the file is at its place, complete."""
        if self._folder is not None:
            target = self._folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole(target) as aside:
                yield aside
            return
        files, path = storage_at(self.where(name))
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / Path(name).name
            yield made
            try:
                files.put_file(str(made), path)  # an object is there when all of it is
            except Exception as error:
                raise InputError(
                    f"{self.where(name)} cannot be written ({one_line(error)}): look at the storage and its credentials"
                ) from error

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a JSON object; None if there is no such file."""
        text = read_text(self.where(name))
        return dict(json.loads(text)) if text else None

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON object."""
        write_text(self.where(name), json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def remove(self, name: str) -> None:
        """Remove a file that is there."""
        files, path = storage_at(self.where(name))
        files.rm_file(path)

    def tidy(self) -> None:
        """Remove what killed writers have left behind on this machine; nobody may be writing."""
        if self._folder is not None:
            for file in self._folder.glob("*/.*"):
                file.unlink(missing_ok=True)

    def digest(self, name: str) -> str | None:
        """Return the SHA-256 of a file; None if it is not there."""
        files, path = storage_at(self.where(name))
        files.invalidate_cache()  # some drivers cache for long that a file is missing
        try:
            with files.open(path, "rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            return None


@contextmanager
def at_hand(place: str) -> Iterator[Path]:
    """Yield a file or folder of this machine with what is at the place, which may be an fsspec URI.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    if not is_remote(place):
        yield Path(place)
        return
    files, path = storage_at(place)
    with tempfile.TemporaryDirectory() as folder:
        if files.isfile(path):
            copy = Path(folder) / path.rpartition("/")[2]
            files.get_file(path, str(copy))
            yield copy
        else:
            yield download(place, Path(folder))
