"""How well drift is found on real text: false alarms, shifts of several kinds and strengths, accuracy without labels.

    make bench-drift DATA=path/to/ag_news OTHER=path/to/thucnews_titles

The models are the linear stage of a bundle, trained on 45,000 rows; for a new topic without one class. `OTHER` has
texts in another language. `EVIDENTLY` is the Python of an environment with evidently, which then sees the same windows.
"""

import argparse
import json
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from components.monitoring.drift.accuracy import Scored, expected_accuracy
from components.monitoring.drift.index import LINE, Limits, compared
from components.monitoring.drift.parts import findings
from components.monitoring.drift.rows import Known, Window
from predictor.model.cpus import available_cpus
from predictor.model.reference import Reference
from tests.benchmarks.drift.shifts import (
    STYLES,
    TRAINED,
    VALIDATED,
    Drawn,
    Model,
    mixed,
    prepared,
    restyled,
    trained,
    window_of,
)  # fmt: skip
from tests.benchmarks.table import Row, publish, row

NEW_TOPIC = "Sports"
_UNUSED = Reference(class_shares={}, confidence_histogram=[], token_edges=[], token_histogram=[])
_POINTS = 3.0


@dataclass(frozen=True)
class Case:
    """A kind of window."""

    name: str
    rows: int
    windows: int
    goal: float | None = None
    """Per cent of the windows in which drift has to be found."""
    estimated: bool = False


@dataclass(frozen=True)
class Seen:
    """What was said of one window, and what it cost."""

    parts: dict[str, float]
    estimate: float
    accuracy: float
    seconds: float


Draw = Callable[[np.random.Generator, int], Drawn]
_MODELS: dict[str, Model] = {}
_DRAWS: dict[str, tuple[str, Draw]] = {}


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="a folder with AG News' train.csv.gz")
    parser.add_argument("--other", type=Path, help="a folder with train.csv.gz in another language")
    parser.add_argument("--windows", type=int, default=20, help="of each kind; where there is a goal twice as many")
    parser.add_argument("--quiet-windows", type=int, default=200, help="without a shift")
    parser.add_argument("--trained", type=int, default=TRAINED, help="rows that the models are trained on")
    parser.add_argument("--only", default="", help="kinds of windows whose name has one of these, with ; between")
    parser.add_argument("--evidently", default="", help="the Python of an environment with evidently")
    asked = parser.parse_args()
    frame = prepared(pd.read_csv(asked.data / "train.csv.gz"))
    other = pd.read_csv(asked.other / "train.csv.gz") if asked.other else None
    labels = sorted(frame["label"].unique())
    cases = _cases(frame[frame["row"] >= VALIDATED], labels, other, asked.windows, asked.quiet_windows)
    cases = [case for case in cases if any(word in case.name for word in asked.only.split(";"))]
    for without in {"", *(_DRAWS[case.name][0] for case in cases)}:
        _MODELS[without] = trained(frame, without, asked.trained)
        assert _MODELS[without].reference.languages and _MODELS[without].reference.unknown.size  # once, for all
    rows = [row("accuracy of the model on its reference", "%", 100 * _MODELS[""].accuracy)]
    with ProcessPoolExecutor(available_cpus(), get_context("fork")) as pool:
        for case in cases:
            seen = list(pool.map(_seen, [(case, number) for number in range(case.windows)], chunksize=2))
            rows += _rows(case, seen)
            print(_line(case, seen), flush=True)
    if asked.evidently:
        rows += _evidently(asked.evidently, cases)
    publish("drift", rows)


def _cases(
    pool: pd.DataFrame, labels: list[str], other: pd.DataFrame | None, few: int, quiet: int
) -> list[Case]:  # fmt: skip
    """Name the kinds of windows, and remember how each is drawn."""
    cases = []

    def add(name: str, windows: int, draw: Draw, rows: int = 500, without: str = "", **more: float | bool) -> None:
        _DRAWS[f"{name}, {rows} rows"] = without, draw
        cases.append(Case(f"{name}, {rows} rows", rows, windows, **more))  # type: ignore[arg-type]

    def plain(without: str) -> pd.DataFrame:
        return pool[pool["label"] != without]

    add("no shift", quiet, lambda random, n: window_of(_MODELS[""], mixed(pool, pool, 0, n, random)), estimated=True)
    for rows in (200, 2000):
        add("no shift", few, lambda random, n: window_of(_MODELS[""], mixed(pool, pool, 0, n, random)), rows)
    for share, goal in ((0.05, None), (0.1, 80), (0.2, 95)):
        for label in labels:
            inside, outside = plain(label), pool[pool["label"] == label]

            def new(
                random: np.random.Generator, n: int, label: str = label, inside: pd.DataFrame = inside,
                outside: pd.DataFrame = outside, share: float = share,
            ) -> Drawn:  # fmt: skip
                return window_of(_MODELS[label], mixed(inside, outside, share, n, random))

            aimed = goal if label == NEW_TOPIC else None
            count = 2 * few if aimed else few // 2
            add(f"new topic {label}, {share:.0%}", count, new, without=label, goal=aimed)  # type: ignore[arg-type]
            if label == NEW_TOPIC:
                for rows in (200, 2000):
                    add(f"new topic {label}, {share:.0%}", few // 2, new, rows, without=label)
    business = pool[pool["label"] == "Business"]
    for share in (0.2, 0.5):

        def mix(random: np.random.Generator, n: int, share: float = share) -> Drawn:
            return window_of(_MODELS[""], mixed(pool, business, share, n, random))

        add(f"mix, {share:.0%} more of a class", few, mix, estimated=True)
    for name, change in STYLES.items():
        for share in (0.1, 0.3, 1.0):

            def style(random: np.random.Generator, n: int, change=change, share: float = share) -> Drawn:  # type: ignore[no-untyped-def]
                return window_of(_MODELS[""], restyled(mixed(pool, pool, 0, n, random), change, share, random))

            add(f"{name}, {share:.0%}", few // 2, style, estimated=True)
    if other is not None:
        for share in (0.02, 0.1):

            def language(random: np.random.Generator, n: int, share: float = share) -> Drawn:
                return window_of(_MODELS[""], mixed(pool, other, share, n, random))

            add(f"another language, {share:.0%}", few // 2, language)
    return cases


def _draw(case: Case, number: int) -> tuple[Model, Drawn]:
    without, draw = _DRAWS[case.name]
    return _MODELS[without], draw(np.random.default_rng([zlib.crc32(case.name.encode()), number]), case.rows)


def _seen(task: tuple[Case, int]) -> Seen:
    case, number = task
    model, drawn = _draw(case, number)
    started = time.perf_counter()
    found, _ = findings(Known(model.reference, _UNUSED), drawn.window)
    parts = compared(found, Limits())
    seconds = time.perf_counter() - started
    estimate = float("nan")
    if case.estimated:
        reference = Scored(model.reference.answers, model.reference.confidence)
        now = Scored(drawn.window.answers, drawn.window.confidence)
        estimate = expected_accuracy(reference, model.reference.labels, now)
    scores = {name: part.score for name, part in parts.items() if part.score is not None}
    return Seen(scores, estimate, drawn.accuracy, seconds)


def _found(seen: list[Seen]) -> float:
    return 100 * float(np.mean([max(each.parts.values()) > LINE for each in seen]))


def _by_part(seen: list[Seen]) -> dict[str, float]:
    return {name: 100 * float(np.mean([each.parts[name] > LINE for each in seen])) for name in seen[0].parts}


def _line(case: Case, seen: list[Seen]) -> str:
    parts = ", ".join(f"{name} {share:.0f}" for name, share in _by_part(seen).items() if share)
    index = np.median([max(each.parts.values()) for each in seen])
    return f"{case.name}: {_found(seen):.1f}% of {len(seen)}, index {index:.2f} ({parts})"


def _rows(case: Case, seen: list[Seen]) -> list[Row]:
    if case.name.startswith("no shift"):
        goal = 5.0 if case.rows == 500 else None
        rows = [row(f"{case.name}: false alarms in {len(seen)}", "% of windows", _found(seen), goal=goal, at_most=True)]
        if case.rows == 500:
            rows += [row(f"{case.name}: time of a window", "s", float(np.median([each.seconds for each in seen])))]
    else:
        rows = [row(f"{case.name}: found in {len(seen)}", "% of windows", _found(seen), goal=case.goal)]
    if case.estimated:
        errors = 100 * np.array([each.estimate - each.accuracy for each in seen])
        goal = _POINTS if case.name.startswith(("no shift", "mix")) else None
        rows += [
            row(f"{case.name}: estimate of accuracy less the truth", "points", float(errors.mean())),
            row(
                f"{case.name}: its error in 95% of windows", "points", float(np.quantile(np.abs(errors), 0.95)),
                goal=goal, at_most=True,
            ),
        ]  # fmt: skip
    return rows


def _evidently(python: str, cases: list[Case]) -> list[Row]:
    """Let Evidently see windows of some kinds; it takes seconds for each."""
    rows = []
    wanted = ("no shift, 500 rows", *(f"new topic {NEW_TOPIC}, {share}, 500 rows" for share in ("10%", "20%")))
    for case in (case for case in cases if case.name in wanted):
        drawn = [_draw(case, number) for number in range(case.windows)]
        reference = drawn[0][0].reference
        whole = Window([""] * len(reference.texts), reference.texts, reference.answers, reference.confidence)
        tables = [_table(whole, -1), *(_table(each.window, number) for number, (_, each) in enumerate(drawn))]
        with tempfile.TemporaryDirectory() as folder:
            pd.concat(tables).to_parquet(f"{folder}/windows.parquet")
            script = str(Path(__file__).with_name("evidently_peer.py"))
            subprocess.run([python, script, f"{folder}/windows.parquet", f"{folder}/found.json"], check=True)
            found = list(json.loads(Path(f"{folder}/found.json").read_text()).values())
        for what, words in (("any", "any column"), ("half", "half of the columns")):
            share = 100 * float(np.mean([each[what] for each in found]))
            rows.append(row(f"Evidently, {words}: {case.name}", f"% of {len(found)} windows", share))
        seconds = float(np.median([each["seconds"] for each in found]))
        rows.append(row(f"Evidently: time of a window of {case.name}", "s", seconds))
    return rows


def _table(window: Window, number: int) -> pd.DataFrame:
    columns = {"text": list(window.texts), "answer": list(window.answers), "confidence": window.confidence}
    return pd.DataFrame(columns).assign(window=number)


if __name__ == "__main__":
    main()
