"""Copies folders and files to and from object storage, through fsspec."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from predictor.errors import InputError, one_line


def is_remote(place: str) -> bool:
    """Whether the place is an fsspec URI such as `s3://bucket/folder`, and not a local path."""
    return "://" in place


def storage_at(uri: str) -> tuple[Any, str]:
    """Return fsspec's file system for the URI, and the path in it.

    Raises:
        InputError: there is no driver for such a URI, or the credentials are missing.
    """
    with _explained(uri, "reached"):
        files, base = fsspec.core.url_to_fs(uri)
        return files, str(base)


def download(uri: str, folder: Path) -> Path:
    """Copy all files under the URI into the folder, and return the folder.

    Raises:
        InputError: nothing is there, or the storage cannot be read.
    """
    with _explained(uri, "read"):
        # Kubeflow Pipelines calls its own S3 storage minio.
        files, base = fsspec.core.url_to_fs(f"s3://{uri[8:]}" if uri.startswith("minio://") else uri)
        found = files.find(base)
        for file in found:
            target = folder / str(file)[len(base.rstrip("/")) + 1 :]
            target.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(file, str(target))
    if not found:
        raise InputError(f"{uri} holds no files: look whether the step that writes it has run, and where to")
    return folder


def upload(folder: Path, uri: str, last: str) -> None:
    """Copy all files of the folder under the URI.

    Args:
        folder: what to copy.
        uri: where to.
        last: the file that is written last, complete or not at all; if it is there, all others are.

    Raises:
        InputError: the storage cannot be written.
    """
    with _explained(uri, "written"):
        files, base = fsspec.core.url_to_fs(uri)
        base = base.rstrip("/")
        if files.exists(f"{base}/{last}"):
            files.rm_file(f"{base}/{last}")  # from now on the old copy is incomplete
        files.makedirs(base, exist_ok=True)
        for file in sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / last):
            target = f"{base}/{file.relative_to(folder).as_posix()}"
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.put_file(str(file), target)
        # Beside the folder: a leftover of a killed process must not look like a part of the folder.
        with _whole(files, f"{base}/{last}", beside=f"{base}.{last}") as aside:
            files.put_file(str(folder / last), aside)


def holds(uri: str, digests: Mapping[str, str]) -> bool:
    """Return whether a folder has these files, byte for byte.

    Args:
        uri: the folder.
        digests: the files' SHA-256 by name.
    """
    with _explained(uri, "read"):
        files, base = fsspec.core.url_to_fs(uri)
        files.invalidate_cache()  # some drivers cache listings for long
        for name, digest in digests.items():
            try:
                with files.open(f"{base.rstrip('/')}/{name}", "rb") as stream:
                    found = hashlib.file_digest(stream, "sha256").hexdigest()
            except (FileNotFoundError, NotADirectoryError):
                return False
            if found != digest:
                return False
    return True


def names_under(uri: str) -> set[str]:
    """Return the names of all files under the URI, relative to it.

    Raises:
        InputError: the storage cannot be read.
    """
    with _explained(uri, "read"):
        files, base = fsspec.core.url_to_fs(uri)
        files.invalidate_cache()  # some drivers cache listings for long
        return {str(file)[len(base.rstrip("/")) + 1 :] for file in files.find(base)}


def read_text(uri: str) -> str:
    """Return the text of one file; empty if it does not exist."""
    with _explained(uri, "read"):
        files, path = fsspec.core.url_to_fs(uri)
        files.invalidate_cache()  # some drivers cache for long that a file is missing
        # Not read_text, which changes line ends: the digest of the text may be known.
        return str(files.cat_file(path).decode()) if files.exists(path) else ""


def write_text(uri: str, text: str) -> None:
    """Write one file, completely or not at all."""
    with _explained(uri, "written"):
        files, path = fsspec.core.url_to_fs(uri)
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        with _whole(files, path, beside=path) as aside:
            files.pipe_file(aside, text.encode())


def check_writable(place: str) -> None:
    """Write a file to a folder or URI, and remove it again.

    Raises:
        InputError: the storage cannot be written, or there is no driver for it.
    """
    with _explained(place, "written"):
        files, base = fsspec.core.url_to_fs(place)
        probe = f"{base.rstrip('/')}/.writable-{os.urandom(4).hex()}"  # another run may check the same place now
        files.makedirs(base, exist_ok=True)
        files.pipe_file(probe, b"yes")
        files.rm_file(probe)


def remove(uri: str) -> None:
    """Remove everything under the URI."""
    with _explained(uri, "written"):
        files, base = fsspec.core.url_to_fs(uri)
        if files.exists(base):
            files.rm(base, recursive=True)


@contextmanager
def _whole(files: Any, path: str, beside: str) -> Iterator[str]:
    """Yield a name to write to; at the end the file is moved to the path, unless there was an error.

    Without this, fsspec would publish an incomplete file when an error or a signal closes it. The name begins with
    `beside` and is this call's own, so that several writers of one path do not disturb each other.
    """
    aside = f"{beside}.{os.urandom(4).hex()}.new"
    try:
        yield aside
        if isinstance(files, LocalFileSystem):
            os.replace(aside, path)
        else:
            files.cp_file(aside, path)  # in an object store a copy is atomic
    finally:
        with suppress(Exception):  # already moved, or never written; a leftover does no harm
            files.rm_file(aside)


@contextmanager
def _explained(uri: str, verb: str) -> Iterator[Any]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # every driver has its own exceptions
        reason = one_line(error)
        look = (
            "look at the address, at its credentials, and whether the fsspec driver for it is installed "
            "(s3fs, gcsfs, adlfs)"
            if "://" in uri
            else "choose another place, or see what stands there and who may use it"
        )
        raise InputError(f"{uri} cannot be {verb} ({type(error).__name__}: {reason}): {look}") from error
