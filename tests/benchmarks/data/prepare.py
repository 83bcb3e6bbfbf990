"""Prepare on made rows, each size in a process of its own: time and peak memory.

    python -m tests.benchmarks.data.prepare --rows 2000000

measures the size that the goal of 3 GB is about, which takes minutes; the default is a tenth.
"""

import argparse
import contextlib
import io
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.prepare import prepare_folder
from tests.benchmarks.machine import peak_megabytes
from tests.benchmarks.table import Row, publish, row

ROWS, CLASSES = 200_000, 5_000
_MANY_ROWS, _MOST_SECONDS = 3_000, 300
_CHUNK, _WORDS, _VOCABULARY = 10_000, 20, 50_000
_COPIES, _NEAR, _EMPTY = 100, 100, 50
"""Of a chunk: rows that are copies of others, that differ from others by a word, and that have no text."""


def measure(folder: Path | None = None, rows: int = ROWS) -> list[Row]:
    """Measure on made rows.

    Args:
        folder: not used; the rows are made.
        rows: how many, in four classes.
    """
    seconds, megabytes, kept = in_own_process(rows, 4)
    many, _, _ = in_own_process(50 * CLASSES, CLASSES)
    return [
        row(f"prepare, {rows:,} made rows of {_WORDS} words, of which {kept:,} are kept", "s", seconds),
        row("the same, peak memory of the process", "MB", megabytes, goal=_MANY_ROWS, at_most=True),
        row(f"prepare, {50 * CLASSES:,} rows of {CLASSES:,} classes", "s", many, goal=_MOST_SECONDS, at_most=True),
    ]


def in_own_process(rows: int, classes: int) -> tuple[float, float, int]:
    """Return seconds, peak memory in MB, and how many rows were kept."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in").mkdir()
        write_made(Path(folder) / "in" / "train.parquet", rows, classes)
        with context.Pool(1) as pool:
            return pool.apply(_prepared, (folder,))


def _prepared(folder: str) -> tuple[float, float, int]:
    started = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        report = prepare_folder(Path(folder) / "in", Path(folder) / "out", seed=1)
    return time.monotonic() - started, peak_megabytes(), sum(report["rows"].values())


def write_made(file: Path, rows: int, classes: int) -> None:
    """Write rows a chunk at a time."""
    schema = pa.schema([("text", pa.string()), ("label", pa.string()), ("source", pa.string())])
    with pq.ParquetWriter(file, schema) as writer:
        for chunk in made(rows, classes):
            writer.write_table(pa.Table.from_pandas(chunk, schema, preserve_index=False))


def made(rows: int, classes: int) -> Iterator[pd.DataFrame]:
    """Yield chunks of made rows; a few are copies, near-copies and empty."""
    random = np.random.default_rng(1)
    words = np.array([f"w{number:x}" for number in range(_VOCABULARY)])
    for start in range(0, rows, _CHUNK):
        size = min(_CHUNK, rows - start)
        drawn = random.integers(_VOCABULARY, size=(size, _WORDS))
        copies, near = size * _COPIES // _CHUNK, size * _NEAR // _CHUNK
        drawn[: copies + near] = drawn[size - copies - near :]
        drawn[copies : copies + near, -1] += 1
        texts = [" ".join(line) for line in words[drawn % _VOCABULARY]]
        label = random.permutation(np.arange(start, start + size) % classes).astype(str)
        label[: copies + near] = label[size - copies - near :]
        texts[size // 2 : size // 2 + size * _EMPTY // _CHUNK] = [""] * (size * _EMPTY // _CHUNK)
        yield pd.DataFrame({"text": texts, "label": label, "source": "made"})


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description="Time and memory of prepare.")
    parser.add_argument("--rows", type=int, default=ROWS)
    publish("data-prepare", measure(rows=parser.parse_args().rows))


if __name__ == "__main__":
    main()
