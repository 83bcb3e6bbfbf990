"""Parts of a log as predictors write them."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec

from predictor.records import Feedback, Kind, Prediction, folder_of, moment, text_hash

MODEL = "news"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def prediction(id_: str, time: str = "2026-11-20T12:00:00.000Z", text: str | None = "goal", **more: Any) -> Prediction:
    given: dict[str, Any] = {
        "id": id_, "time": time, "revision": "r", "bundle": "ab", "text": text, "text_hash": text_hash(text or ""),
        "characters": len(text or ""), "tokens": 3, "label": "Sports", "confidence": 0.75,
        "probabilities": {"Sports": 0.75, "World": 0.25}, "stage": "transformer",
    }  # fmt: skip
    return Prediction(**{**given, **more})


def feedback(id_: str, label: str, time: str = "2026-11-20T13:00:00.000Z", source: str | None = None) -> Feedback:
    return Feedback(id_, time, label, source)


def packed(records: Sequence[Prediction | Feedback]) -> bytes:
    return gzip.compress(b"".join(json.dumps(asdict(record)).encode() + b"\n" for record in records))


def put(uri: str, name: str, records: Sequence[Prediction | Feedback], data: bytes | None = None) -> str:
    """Write a part to the day of its first record, or other bytes in its place."""
    kind: Kind = "predictions" if isinstance(records[0], Prediction) else "feedback"
    folder = folder_of(uri, MODEL, kind, moment(records[0].time).date())
    files, base = fsspec.core.url_to_fs(folder)
    files.makedirs(base, exist_ok=True)
    files.pipe_file(f"{base}/{name}.jsonl.gz", packed(records) if data is None else data)
    return f"{base}/{name}.jsonl.gz"


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file())
