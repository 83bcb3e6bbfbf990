"""Finds the parts of a log and reads each, however damaged it is."""

import json
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from components.platform.storage import storage_at
from predictor.errors import InputError, one_line
from predictor.files import whole_and_synced
from predictor.records import COLUMNS, LINES, Feedback, Kind, Prediction, feedback_of, folder_of, prediction_of

Record = Prediction | Feedback

_DAY = "date="
_GZIP = 31
"""What zlib calls a stream with gzip's head and checksum."""
_TEXTS = ("id", "time", "revision", "bundle", "text", "text_hash")
SCHEMAS: Mapping[Kind, pa.Schema] = {
    "predictions": pa.schema(
        [
            *((name, pa.string()) for name in _TEXTS),
            ("characters", pa.int64()),
            ("tokens", pa.int64()),
            ("label", pa.string()),
            ("confidence", pa.float64()),
            ("probabilities", pa.map_(pa.string(), pa.float64())),
            ("stage", pa.string()),
        ]
    ),
    "feedback": pa.schema([(name, pa.string()) for name in ("id", "time", "label", "source")]),
}
"""Columns of compacted parts: the fields of the records, under their names."""
_READERS: Mapping[Kind, Callable[[object], Record]] = {"predictions": prediction_of, "feedback": feedback_of}


@dataclass(frozen=True)
class Part:
    """A file of records."""

    path: str
    kind: Kind
    day: date

    @property
    def name(self) -> str:
        """The file's name and its day's, for people."""
        return "/".join(self.path.split("/")[-2:])

    @property
    def compacted(self) -> bool:
        """Whether it is a Parquet file."""
        return self.path.endswith(COLUMNS)


@dataclass
class Content:
    """What could be read of a part."""

    records: list[Record] = field(default_factory=list)
    fault: str = ""
    """Why it was skipped, or why its end is missing; empty where the file is whole."""
    bad_lines: Counter[str] = field(default_factory=Counter)
    """Lines that are no records, by the reason."""

    @property
    def whole(self) -> bool:
        """Whether nothing of the part was left out."""
        return not self.fault and not self.bad_lines


class Log:
    """The log of one model.

    Args:
        uri: a folder or an fsspec URI, as for `pigeonhole serve --log-url`.
        model: the model's name in the endpoints' paths.

    Raises:
        InputError: there is no driver for the URI.
    """

    def __init__(self, uri: str, model: str) -> None:
        self.uri, self.model = uri, model
        self.files, self._root = storage_at(uri)

    def folder(self, kind: Kind, day: date) -> str:
        """Return the folder of a day's parts."""
        return folder_of(self._root, self.model, kind, day)

    def days(self, kind: Kind) -> list[date]:
        """Return the days that have a folder, in order; folders of other names are ignored.

        Raises:
            InputError: the storage cannot be read.
        """
        found = []
        for path in self._names(folder_of(self._root, self.model, kind)):
            name = path.rpartition("/")[2]
            if name.startswith(_DAY):
                try:
                    found.append(date.fromisoformat(name.removeprefix(_DAY)))
                except ValueError:
                    continue
        return sorted(found)

    def others(self) -> list[str]:
        """Return the other models that have a log at the same place.

        Raises:
            InputError: the storage cannot be read.
        """
        models = {path.rstrip("/").rpartition("/")[2] for path in self._names(self._root)} - {self.model}
        return sorted(name for name in models if self.files.isdir(folder_of(self._root, name, "predictions")))

    def parts(self, kind: Kind, first: date = date.min, last: date = date.max) -> Iterator[Part]:
        """Yield the parts of some days, both ends among them: day by day, the compacted ones first, each by its name.

        Raises:
            InputError: the storage cannot be read.
        """
        for day in self.days(kind):
            if first <= day <= last:
                yield from self.parts_of(kind, day)

    def parts_of(self, kind: Kind, day: date) -> list[Part]:
        """Return the parts of a day; hidden files are being written, or were left by a killed process."""
        paths = [
            path
            for path in self._names(self.folder(kind, day))
            if path.endswith((LINES, COLUMNS)) and not path.rpartition("/")[2].startswith(".")
        ]
        return [Part(path, kind, day) for path in sorted(paths, key=lambda path: (not path.endswith(COLUMNS), path))]

    def read(self, part: Part) -> Content:
        """Read a part; damage is said in the content, and is no error.

        Raises:
            FileNotFoundError: it is gone, since another process has compacted it.
            InputError: the storage cannot be read.
        """
        try:
            data = self.files.cat_file(part.path)
        except FileNotFoundError:
            raise
        except Exception as error:  # every driver has its own exceptions
            raise self._unreadable(error) from error
        return _columns(data, part.kind) if part.compacted else _lines(data, part.kind)

    def put(self, path: str, source: bytes | Path) -> None:
        """Put bytes or a file in a place, whole or not at all.

        Raises:
            InputError: the storage cannot be written.
        """
        try:
            if isinstance(self.files, LocalFileSystem):
                with whole_and_synced(Path(path)) as stream:
                    _copy(source, stream)
            elif isinstance(source, Path):  # in an object store a file appears when all of it is there
                self.files.put_file(str(source), path)
            else:
                self.files.pipe_file(path, source)
        except Exception as error:
            raise self._unwritable(error) from error

    def remove(self, part: Part) -> None:
        """Remove a part, if it is still there.

        Raises:
            InputError: the storage cannot be written.
        """
        try:
            self.files.rm_file(part.path)
        except FileNotFoundError:
            pass  # another run was quicker
        except Exception as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> InputError:
        return InputError(
            f"the log at {self.uri} cannot be written ({type(error).__name__}: {one_line(error)}): look at the address "
            "and its credentials, and run the step again"
        )

    def _names(self, folder: str) -> list[str]:
        try:
            self.files.invalidate_cache()  # some drivers cache listings for long
            return [str(path) for path in self.files.ls(folder, detail=False)]
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(
            f"the log at {self.uri} cannot be read ({type(error).__name__}: {one_line(error)}): look at the address "
            "and its credentials"
        )


def _copy(source: bytes | Path, target: BinaryIO) -> None:
    if isinstance(source, bytes):
        target.write(source)
        return
    with source.open("rb") as stream:
        shutil.copyfileobj(stream, target)


def _lines(data: bytes, kind: Kind) -> Content:
    text, fault = _unzipped(data)
    content = Content(fault=fault)
    lines = text.split(b"\n")
    lines.pop()  # empty, or the part of a line that a truncated file ends with
    for line in lines:
        try:
            content.records.append(_READERS[kind](json.loads(line)))
        except InputError as error:
            content.bad_lines[str(error)] += 1
        except (ValueError, RecursionError):
            content.bad_lines["the line is no JSON"] += 1
    return content


def _unzipped(data: bytes) -> tuple[bytes, str]:
    """Return what can be read of gzip, and what is wrong with it.

    Of a truncated stream that is all up to its end; of one whose checksum is wrong it is nothing, since nobody knows
    which byte is another.
    """
    if not data:
        return b"", "it is empty"
    pieces = []
    while data:
        stream = zlib.decompressobj(_GZIP)
        try:
            pieces.append(stream.decompress(data))
        except zlib.error as error:
            return b"", f"it is damaged ({one_line(error, 80)})"
        if not stream.eof:
            return b"".join(pieces), "it is truncated: what came before its end was read"
        data = stream.unused_data
    return b"".join(pieces), ""


def _columns(data: bytes, kind: Kind) -> Content:
    try:
        rows = pq.read_table(pa.BufferReader(data)).to_pylist()
    except Exception as error:
        return Content(fault=f"it is damaged ({one_line(error, 80)})")
    content = Content()
    for row in rows:
        try:
            content.records.append(_READERS[kind](_with_object(row)))
        except (InputError, TypeError, ValueError) as error:
            content.bad_lines[one_line(error)] += 1
    return content


def _with_object(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its map of probabilities, a list of pairs in Python, as an object."""
    shares = row.get("probabilities")
    return {**row, "probabilities": dict(shares)} if shares is not None else row
