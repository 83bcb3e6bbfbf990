"""A prediction log as predictors write it, and rows of a reference, for tests."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.monitoring.drift.rows import Known, ReferenceRows, Window
from predictor.model.reference import Reference
from tests.conftest import toy_frame

BUNDLE = "b" * 64
DAY = "2026-11-29"


def prediction(number: int, **other: Any) -> dict[str, Any]:
    return {
        "id": f"r{number}", "time": f"{DAY}T12:{number % 60:02d}:00.000Z", "revision": "1", "bundle": BUNDLE,
        "text": f"text {number}", "text_hash": "0" * 32, "characters": 8, "tokens": None, "label": "Sports",
        "confidence": 0.9, "probabilities": {"Sports": 0.9, "World": 0.1}, "stage": "linear", **other,
    }  # fmt: skip


def feedback(number: int, label: str, minute: int = 0, **other: Any) -> dict[str, Any]:
    return {"id": f"r{number}", "time": f"{DAY}T13:{minute:02d}:00.000Z", "label": label, "source": None, **other}


def part(log: Path, kind: str, name: str, rows: Sequence[object], day: str = DAY) -> Path:
    folder = log / "news" / kind / f"date={day}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.jsonl.gz"
    file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return file


def reference(rows_a_class: int = 100, seed: int = 1) -> ReferenceRows:
    frame = toy_frame(rows_a_class, seed)
    labels, random = frame["label"].tolist(), np.random.default_rng(seed)
    answers = [label if random.random() < 0.9 else "World" for label in labels]
    texts = [text.rpartition(" ")[0] for text in frame["text"]]  # the number behind is in no other
    return ReferenceRows(texts, labels, answers, random.beta(9, 1, len(labels)))


def known(rows: ReferenceRows | None) -> Known:
    shares = {"Business": 0.3, "Sports": 0.3, "World": 0.4}
    histogram = [0] * 10 + [5, 5, 5, 5, 10, 20, 30, 60, 60, 100, 0]
    return Known(
        rows,
        Reference(class_shares=shares, confidence_histogram=histogram, token_edges=[64], token_histogram=[300, 0]),
    )


def window(rows: ReferenceRows) -> Window:
    """Rows as a window of traffic."""
    return Window([str(number) for number in range(len(rows.texts))], rows.texts, rows.answers, rows.confidence)
