"""What scoring a file costs beside the bare engine, and whether a batch that is killed gives the same files.

    make bench-score BUNDLE=path/to/bundle DATA=path/to/ag_news ROWS=20000

The bare engine is the classifier on the same texts in memory, in chunks of the same size. Both are measured in core
time, in which other work on the machine does not count, and in wall time; rounds are interleaved. A batch has its split
from CSV, its digests, its output and its manifest in it. Rows are those of the test file: of rows that a cascade was
trained on it answers more by itself. More rows than the file has are the same ones again.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd

from components.data.sources.table import CHUNK_ROWS
from components.data.sources.tables import SUFFIXES, read_table
from components.scoring.manifest import merge
from components.scoring.plan import Settings, make_plan
from components.scoring.steps import score_here
from components.scoring.store import Store
from components.scoring.work import work
from predictor.model.classifier import Classifier
from tests.benchmarks.machine import peak_megabytes
from tests.benchmarks.table import Row, publish, row

ROUNDS = 3
_ALONE = """
import sys
from components.scoring.plan import Settings
from components.scoring.steps import score_here
from tests.benchmarks.machine import peak_megabytes
score_here(*sys.argv[1:4], Settings(part_rows=int(sys.argv[4])))
print("peak", peak_megabytes())
"""


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", required=True, help="a file, or a folder with a test file")
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.csv"
        texts = _written(Path(asked.data), asked.rows, source)
        rows = _overhead(source, texts, asked.bundle, Path(folder), asked.rounds)
        rows += _killed(source, asked.bundle, Path(folder), asked.rows)
    publish("score", rows)


def _written(data: Path, rows: int, target: Path) -> list[str]:
    """Write so many rows of a data set to a CSV file without labels, and return their texts."""
    file = data
    if data.is_dir():
        file = next(data / f"test{suffix}" for suffix in SUFFIXES if (data / f"test{suffix}").is_file())
    frame = read_table(file)[["text"]]
    frame = pd.concat([frame] * -(-rows // len(frame)), ignore_index=True)[:rows]
    frame.insert(0, "id", range(len(frame)))
    frame.to_csv(target, index=False)
    return list(frame["text"])


def _overhead(source: Path, texts: list[str], bundle: str, folder: Path, rounds: int) -> list[Row]:
    classifier = Classifier(Path(bundle))
    taken: dict[str, list[tuple[float, float]]] = {"bare": [], "split": [], "score": []}
    for number in range(rounds):
        store = Store(str(folder / f"round-{number}"))
        with redirect_stdout(sys.stderr):
            taken["bare"].append(_timed(lambda: _bare(classifier, texts)))
            taken["split"].append(
                _timed(lambda to=store: make_plan(to, str(source), classifier.bundle, Settings()))  # type: ignore[misc]
            )
            taken["score"].append(_timed(lambda to=store: _scored(to, source, classifier)))  # type: ignore[misc]
        cores = ", ".join(f"{name} {times[-1][0]:.1f} s" for name, times in taken.items())
        print(f"round {number + 1} of {rounds}: {cores} of core time", flush=True)
    classifier.close()
    core, wall = ({name: [each[kind] for each in times] for name, times in taken.items()} for kind in (0, 1))
    whole = [split + score for split, score in zip(core["split"], core["score"], strict=True)]
    bare, name, count = statistics.median(core["bare"]), "bare engine", len(texts)
    over = statistics.median(100 * (one / other - 1) for one, other in zip(whole, core["bare"], strict=True))
    waited = statistics.median(
        100 * ((split + score) / alone - 1)
        for split, score, alone in zip(wall["split"], wall["score"], wall["bare"], strict=True)
    )
    mine = statistics.median(whole)
    return [
        row(f"{count:,} rows, core time over the engine's", "%", mine, bare, name, value=over, goal=10, at_most=True),
        row("wall time over the engine's, on a shared machine", "%", waited),
        row("of it the split", "core s", statistics.median(core["split"])),
        row("rows per core second", "rows/s", count / mine, count / bare, name),
        row("core time of a billion rows", "core h", 1e9 * mine / count / 3600),
    ]


def _bare(classifier: Classifier, texts: list[str]) -> None:
    for start in range(0, len(texts), CHUNK_ROWS):
        classifier.probabilities(texts[start : start + CHUNK_ROWS])


def _scored(store: Store, source: Path, classifier: Classifier) -> None:
    plan = make_plan(store, str(source), classifier.bundle, Settings())
    assert work(store, plan, plan.parts, classifier)
    merge(store, plan)


def _timed(task: Callable[[], object]) -> tuple[float, float]:
    """Return the core seconds and the wall seconds of a task."""
    wall, core = time.perf_counter(), time.process_time()
    task()
    return time.process_time() - core, time.perf_counter() - wall


def _killed(source: Path, bundle: str, folder: Path, rows: int) -> list[Row]:
    """Kill a batch when a third of its parts is finished, go on, and compare with one that nothing disturbed."""
    part_rows = max(rows // 10, 1)
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, source, bundle, folder / "whole", str(part_rows)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    peak = float(done.stdout.rpartition("peak ")[2])
    command: list[str | Path] = [sys.executable, "-c", _ALONE, source, bundle, folder / "killed", str(part_rows)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while len(list((folder / "killed/entries").glob("*.json"))) < 3 and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    left = 10 - len(list((folder / "killed/entries").glob("*.json")))
    with redirect_stdout(sys.stderr):
        score_here(str(source), bundle, str(folder / "killed"), Settings(part_rows=part_rows))
    one, other = ((folder / name / "manifest.json").read_bytes() for name in ("whole", "killed"))
    names = [part["file"] for part in json.loads(one)["parts"]]
    same = one == other and all(
        (folder / "whole" / name).read_bytes() == (folder / "killed" / name).read_bytes() for name in names
    )
    return [
        row(f"killed with {left} of 10 parts left, then resumed: the same files", "1 yes", float(same), goal=1),
        row("most memory of a process that scores", "MB", peak, peak_megabytes(), "this benchmark"),
    ]


if __name__ == "__main__":
    main()
