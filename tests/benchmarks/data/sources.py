"""Collecting a made file of 2 million rows: memory, and rows per second of CPU time."""

import csv
import gzip
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.table import Row, row

ROWS = 2_000_000
_MEASURE = """
import json, sys, time
from pathlib import Path
from components.data.collect import collect
from tests.benchmarks.machine import peak_megabytes
begun = time.process_time()
collected = collect(sys.argv[1], Path(sys.argv[2]), tell=lambda _: None)
print(json.dumps([collected.rows["train"], time.process_time() - begun, peak_megabytes()]))
"""


def measure(_: Path) -> list[Row]:
    """Return the rows of the table: peak memory of the whole process for a tenth of the rows and for all of them."""
    with tempfile.TemporaryDirectory() as folder:
        least, (rows, seconds, most) = (_collected(Path(folder), number) for number in (ROWS // 10, ROWS))
        return [
            row("collect: peak memory, 2 million rows", "MB", most, goal=1000, at_most=True),
            row(
                "collect: peak memory, 2 million rows to 200,000", "ratio", most, least[2], "200,000 rows",
                value=most / least[2], goal=1.25, at_most=True,
            ),
            row("collect: rows", "rows per CPU second", rows / seconds),
        ]  # fmt: skip


def _collected(folder: Path, rows: int) -> tuple[int, float, float]:
    """Return the rows that were read, the CPU seconds and the peak memory in MB of a process of its own."""
    file = folder / f"{rows}.csv.gz"
    chosen, words = random.Random(1), [f"word{number}" for number in range(5000)]
    with gzip.open(file, "wt", newline="", compresslevel=1) as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label", "note"))
        for number in range(rows):
            text = f"№ {number}, {' '.join(chosen.choices(words, k=35))}"
            writer.writerow((text, f"class {number % 50}", "x"))
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, file, folder / "out"], stdout=subprocess.PIPE, text=True, check=True
    )
    found: tuple[int, float, float] = tuple(json.loads(done.stdout))
    if found[0] != rows:
        raise AssertionError(f"{found[0]} of {rows} rows were read")
    return found
