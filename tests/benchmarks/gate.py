"""The gate by simulation: how often it notices a gain, and how often it refuses a model that is as good.

    make bench-gate

Models are drawn, not trained: two models differ on some rows, and who is right there is chance. Two bundles on 7,600
rows, and the report of 5,000 classes, are timed where `DATA` and `BUNDLE` name them.
"""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from components.evaluation.gate import gate
from components.evaluation.reporting.report import render_report
from components.evaluation.scores import Champion, Evaluation, SliceScore
from components.evaluation.statistics import LEVEL, Paired
from components.evaluation.thresholds import Thresholds
from components.training.recipe import Epoch
from tests.benchmarks.table import Row, publish, row
from tests.components.evaluation.evaluations import GOOD, many

ROWS, DISAGREEMENT, DRAWS, SLICES = 7600, 0.08, 2000, 60


def main() -> None:
    """Simulate, time and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", help="as for pigeonhole run; with --bundle, its test rows are answered")
    parser.add_argument("--bundle", type=Path, help="a bundle that is candidate and champion")
    asked = parser.parse_args()
    publish("gate", [*_decisions(), *_report(), *(_bundles(asked.data, asked.bundle) if asked.bundle else [])])


def _drawn(random: np.random.Generator, gain: float, rows: int = ROWS) -> Paired:
    """Draw two models of which the first has `gain` more accuracy."""
    better, worse, _ = random.multinomial(
        rows, [(DISAGREEMENT + gain) / 2, (DISAGREEMENT - gain) / 2, 1 - DISAGREEMENT]
    )
    return Paired(rows, int(better), int(worse))


def _decisions() -> list[Row]:
    random = np.random.default_rng(0)
    equal = np.mean([_drawn(random, 0.0).p_better() < LEVEL for _ in range(DRAWS)])
    noticed = np.mean([_drawn(random, 0.01).p_better() < LEVEL for _ in range(DRAWS)])
    loss = np.mean([not _passes(_drawn(random, -0.01)) for _ in range(DRAWS)])
    refused = np.mean([not _passes(_drawn(random, 0.0)) for _ in range(DRAWS)])
    slices = np.mean([not _passes(Paired(ROWS, 0, 0), _slices(random)) for _ in range(DRAWS // 4)])
    return [
        row("equal models told as better", "% of draws", 100 * float(equal), goal=5, at_most=True),
        row("a gain of 1 point noticed", "% of draws", 100 * float(noticed), goal=90),
        row("a loss of 1 point refused", "% of draws", 100 * float(loss), goal=90),
        row("equal models refused", "% of draws", 100 * float(refused), goal=5, at_most=True),
        row(
            f"equal models refused for any of {SLICES} slices", "% of draws", 100 * float(slices), goal=5, at_most=True
        ),
    ]


def _passes(pair: Paired, slices: list[SliceScore] | None = None) -> bool:
    score = GOOD.score
    champion = Champion("1", "", score=score, only_candidate=pair.only_first, only_champion=pair.only_second)
    return gate(replace(GOOD, rows=pair.rows, champion=champion, slices=slices or []), Thresholds()).passed


def _slices(random: np.random.Generator) -> list[SliceScore]:
    drawn = (_drawn(random, 0.0, int(size)) for size in random.integers(30, 1000, SLICES))
    return [
        SliceScore(str(number), pair.rows, round(0.94 * pair.rows), pair.only_first, pair.only_second)
        for number, pair in enumerate(drawn)
    ]


def _report() -> list[Row]:
    result: Evaluation = many(5000)
    history = [asdict(Epoch(number, 0.5, 0.5, 0.9, 1.0, 1.0)) for number in (1, 2, 3)]
    training = {"history": history, "precision": "fp32", "precision_reason": "", "device": "cpu"}
    by_label = {split: dict.fromkeys(result.labels, 9) for split in ("train", "validation", "test")}
    data = {
        "rows": dict.fromkeys(by_label, 45_000), "rows_by_label": by_label, "rejected": {}, "cleaning": {},
        "duplicates": {}, "leakage": {}, "drawn_from_train": [], "sha256": "",
    }  # fmt: skip
    started = time.perf_counter()
    report = render_report(result, gate(result, Thresholds()), training, data)
    seconds = time.perf_counter() - started
    return [
        row("report of 5,000 classes", "s", seconds, goal=20, at_most=True),
        row("report of 5,000 classes", "MB", len(report.html.encode()) / 1e6, goal=1, at_most=True),
    ]


def _bundles(data: str, bundle: Path) -> list[Row]:
    from components.data.collect import collect_frames
    from components.data.prepare import prepare
    from components.evaluation.champion import ChampionBundle
    from components.evaluation.evaluate import evaluate
    from components.training.baseline import Baseline

    dataset = prepare(collect_frames(data), 42)
    answers = dict(zip(dataset.test.frame["id"], dataset.test.labels, strict=True))
    started = time.perf_counter()
    result, _ = evaluate(bundle, dataset, Baseline("", 0, 1.0, 1.0), answers, ChampionBundle("1", "", bundle))
    seconds = time.perf_counter() - started
    print(gate(result, Thresholds()).reasons)
    return [row(f"two bundles on {result.rows:,} rows", "s", seconds, goal=60, at_most=True)]


if __name__ == "__main__":
    main()
