"""Folders that travel through object storage."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from predictor.errors import InputError


def is_remote(place: str) -> bool:
    """Whether the place is an fsspec URI such as `s3://bucket/folder`, and not a local path."""
    return "://" in place


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
        last: the file that goes last; who finds it there finds all.

    Raises:
        InputError: the storage cannot be written.
    """
    with _explained(uri, "written"):
        files, base = fsspec.core.url_to_fs(uri)
        for file in sorted((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.name == last):
            target = f"{base.rstrip('/')}/{file.relative_to(folder).as_posix()}"
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.put_file(str(file), target)


def names_under(uri: str) -> set[str]:
    """Return the names of all files under the URI, relative to it.

    Raises:
        InputError: the storage cannot be read.
    """
    with _explained(uri, "read"):
        files, base = fsspec.core.url_to_fs(uri)
        return {str(file)[len(base.rstrip("/")) + 1 :] for file in files.find(base)}


def read_text(uri: str) -> str:
    """Return the text of one file; empty where there is none."""
    with _explained(uri, "read"):
        files, path = fsspec.core.url_to_fs(uri)
        files.invalidate_cache()  # some storages remember for long that there was no such file
        # Not its read_text, which would turn line ends into others: what is read may be known by its digest.
        return str(files.cat_file(path).decode()) if files.exists(path) else ""


def write_text(uri: str, text: str) -> None:
    """Write one file."""
    with _explained(uri, "written"):
        files, path = fsspec.core.url_to_fs(uri)
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        files.write_text(path, text)


def remove(uri: str) -> None:
    """Remove all that is under the URI, if anything is."""
    with _explained(uri, "written"):
        files, base = fsspec.core.url_to_fs(uri)
        if files.exists(base):
            files.rm(base, recursive=True)


@contextmanager
def _explained(uri: str, verb: str) -> Iterator[Any]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # each kind of storage has exceptions of its own
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{uri} cannot be {verb} ({type(error).__name__}: {reason}): look at the address, at its credentials, "
            "and whether the fsspec driver for it is installed (s3fs, gcsfs, adlfs)"
        ) from error
