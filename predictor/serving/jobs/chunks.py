"""The pieces of a job, and their bytes in Redis. What is read back is checked: others may write there, too."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import orjson

from predictor.serving.call import Row
from predictor.serving.jobs.status import RowResult

# Bounds of a chunk, about a second's work of two cores: a chunk is what a small job waits for, and what a kill repeats.
MOST_TEXTS = 256
MOST_CHARACTERS = 131_072
MOST_VALUES = 65_536
"""Probabilities of a chunk's answers."""
# What a chunk's texts may take when they are unpacked: one text may be as long as a request.
_MOST_BYTES = 256 * 2**20


class Damaged(Exception):
    """Bytes that we did not write: one sentence."""


@dataclass(frozen=True)
class Pieces:
    """A job's texts, cut into chunks."""

    starts: tuple[int, ...]
    """Where each chunk starts, and the number of all texts."""
    blobs: tuple[bytes, ...]
    """The texts of each chunk, packed."""

    @property
    def sizes(self) -> list[int]:
        """Texts of each chunk."""
        return [end - start for start, end in pairwise(self.starts)]


def cut(texts: Sequence[str], labels: int) -> Pieces:
    """Cut texts into chunks and pack them; this takes a while for many."""
    starts = (*_starts(texts, max(1, min(MOST_TEXTS, MOST_VALUES // labels))), len(texts))
    blobs = (zlib.compress(orjson.dumps(list(texts[start:end])), 1) for start, end in pairwise(starts))
    return Pieces(starts, tuple(blobs))


def _starts(texts: Sequence[str], most: int) -> Iterator[int]:
    count = most
    characters = 0
    for place, text in enumerate(texts):
        characters += len(text)
        if count == most or characters > MOST_CHARACTERS:
            yield place
            count, characters = 0, len(text)
        count += 1


def pack_starts(starts: Sequence[int]) -> bytes:
    """Return the bytes of where chunks start."""
    return np.array(starts, dtype="<u4").tobytes()


def unpack_starts(blob: bytes | None) -> list[int]:
    """Return where each chunk starts, and the number of all texts.

    Raises:
        Damaged: the numbers do not grow from 0 on.
    """
    if not blob or len(blob) % 4:
        raise Damaged("the job's list of chunks is damaged")
    starts: list[int] = np.frombuffer(blob, dtype="<u4").tolist()
    if starts[0] or len(starts) < 2 or any(end <= start for start, end in pairwise(starts)):
        raise Damaged("the job's list of chunks is damaged")
    return starts


def unpack_texts(blob: bytes | None, count: int) -> list[str]:
    """Return the texts of a chunk.

    Raises:
        Damaged: these are not `count` texts.
    """
    if blob is None:
        raise Damaged("the texts are not in Redis any more")
    unpacking = zlib.decompressobj()
    try:
        texts = orjson.loads(unpacking.decompress(blob, _MOST_BYTES))
    except (zlib.error, ValueError):
        texts = None
    if not isinstance(texts, list) or len(texts) != count or not all(isinstance(text, str) for text in texts):
        raise Damaged("the texts in Redis are damaged")
    return texts


def pack_results(answers: Sequence[Row | str], labels: int, version: str) -> bytes:
    """Return the bytes of a chunk's answers: of each text the probabilities, or a sentence that says why not."""
    rows = np.zeros((len(answers), labels), dtype="<f4")
    errors = {}
    for place, answer in enumerate(answers):
        if isinstance(answer, str):
            errors[str(place)] = answer
        else:
            rows[place] = answer
    return orjson.dumps({"rows": len(answers), "version": version, "errors": errors}) + b"\n" + rows.tobytes()


def unpack_results(blob: bytes, count: int, labels: int) -> list[RowResult]:
    """Return the answers of a chunk.

    Raises:
        Damaged: these are not the answers to `count` texts.
    """
    head, _, body = blob.partition(b"\n")
    try:
        about = orjson.loads(head)
        errors = {int(place): str(error) for place, error in about["errors"].items()}
        version = str(about["version"])
        sound = about["rows"] == count and len(body) == 4 * count * labels
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise Damaged("the results in Redis are damaged")
    rows = np.frombuffer(body, dtype="<f4").reshape(count, labels).astype(np.float32)
    if not np.isfinite(rows).all() or (rows < 0).any():
        raise Damaged("the results in Redis are damaged")
    return [
        RowResult(None, errors[place], version) if place in errors else RowResult(row, version=version)
        for place, row in enumerate(rows)
    ]
