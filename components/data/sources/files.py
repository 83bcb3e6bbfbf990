"""Files and folders of files, on this machine or wherever fsspec reaches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.data.sources.address import masked, safe
from components.data.sources.table import Request, Table
from components.data.sources.tables import SUFFIXES, File, table_of
from predictor.errors import InputError, one_line

SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""What a split is called, in files and data sets."""
_KINDS = ", ".join(suffix for suffix in SUFFIXES if not suffix.endswith(".gz"))


def local_tables(request: Request) -> Iterator[Table]:
    """Yield a table for each split file of a folder; a single file is the train split."""
    path = Path(request.address)
    if path.is_dir():
        found = {file.name: File.local(file) for file in path.iterdir() if file.is_file()}
        yield from _splits(found, request, str(path))
    elif path.is_file():
        yield table_of(_known(File.local(path)), "train", request)
    else:
        raise InputError(
            f"--data {path} is not a folder or a file: give 'sample', a folder with train and test files, a file, "
            "or the address of another source"
        )


def remote_tables(request: Request) -> Iterator[Table]:
    """Yield a table for each split file under an fsspec URL; the address of a single file is the train split."""
    import fsspec

    address, where = request.address, safe(request.address)
    try:
        files, base = fsspec.core.url_to_fs(address)
    except Exception as error:  # every driver has its own exceptions
        raise _unreachable(address, error) from None
    if safe(address).endswith(SUFFIXES):
        yield table_of(_remote(files, base, address, where), "train", request)
        return
    try:
        listed = [str(path) for path in files.ls(base, detail=False)]
    except Exception as error:
        raise _unreachable(address, error) from None
    found = {
        name: _remote(files, path, address, f"{where.rstrip('/')}/{name}")
        for path in listed
        if (name := safe(path).rstrip("/").rpartition("/")[2])
    }
    yield from _splits(found, request, where)


def companion(address: str, name: str) -> bytes | None:
    """Return the content of a file that stands beside the split files of a folder, None where there is none.

    Raises:
        InputError: it cannot be read.
    """
    import fsspec

    if safe(address).endswith(SUFFIXES):
        return None
    try:
        files, base = fsspec.core.url_to_fs(address)
        path = f"{base.rstrip('/')}/{name}"
        return bytes(files.cat_file(path)) if files.exists(path) else None
    except Exception as error:  # every driver has its own exceptions
        raise _unreachable(address, error) from None


def _remote(files: Any, path: str, address: str, where: str) -> File:
    return File(safe(where).rpartition("/")[2], where, lambda: files.open(path, "rb"), lambda e: masked(e, address))


def _unreachable(address: str, error: Exception) -> InputError:
    return InputError(
        f"{safe(address)} cannot be reached ({type(error).__name__}: {one_line(masked(error, address))}): look at the "
        "address, at its credentials, and whether the fsspec driver for it is installed (s3fs, gcsfs, adlfs)"
    )


def _splits(found: dict[str, File], request: Request, where: str) -> Iterator[Table]:
    for split, names in SPLIT_NAMES.items():
        there = [name + suffix for name in names for suffix in SUFFIXES if name + suffix in found]
        if len(there) > 1:
            raise InputError(f"{where} has several {split} files ({', '.join(there)}): keep one")
        if there:
            yield table_of(found[there[0]], split, request)


def _known(file: File) -> File:
    if not file.name.endswith(SUFFIXES):
        raise InputError(f"{file.where} is of no known kind: end its name in {_KINDS}, or in these and .gz")
    return file
