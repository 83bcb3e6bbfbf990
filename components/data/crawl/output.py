"""What a crawl leaves in its folder, and the last line of its process."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from predictor.files import whole

STATE_FILE, REPORT_FILE = ".crawl.sqlite", "crawl.json"
ROWS, UNLABELLED = "train.jsonl", "unlabelled.jsonl"
WRONG, AWAY = "error: ", "unavailable: "
"""What the last line begins with, if it is the sentence of an error: wrong input, or something is away."""


def write_rows(target: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Write rows as JSON lines, or leave no file where there are none; return how many there are."""
    first = next(rows, None)
    if first is None:
        target.unlink(missing_ok=True)
        return 0
    written = 0
    with whole(target) as file, file.open("w", encoding="utf-8") as lines:
        for row in chain([first], rows):
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            written += 1
    return written


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of such a file; none if it is not there."""
    if file.exists():
        with file.open(encoding="utf-8", newline="\n") as lines:
            yield from map(json.loads, lines)
