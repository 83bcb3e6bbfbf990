"""Rows of a benchmark: a table for people, JSON for machines."""

import json
import operator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.machine import cpu_here

FOLDER = Path("bench")


@dataclass(frozen=True)
class Row:
    """One figure of ours beside a peer's; `value`, a ratio or a difference, is what `goal` is about."""

    metric: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    value: float | None = None
    goal: float | None = None
    """The least value that is wanted, or with `at_most` the greatest; None where nothing is wanted."""
    met: bool | None = None


def row(
    metric: str, unit: str, ours: float, peer: float | None = None, peer_name: str = "", *,
    value: float | None = None, goal: float | None = None, at_most: bool = False,
) -> Row:  # fmt: skip
    """Return a row that knows whether its goal is met; without a value it is `ours` that counts."""
    counted = ours if value is None else value
    better = operator.le if at_most else operator.ge
    return Row(
        metric, unit, ours, peer, peer_name, counted, goal, None if goal is None else bool(better(counted, goal))
    )


def publish(name: str, rows: list[Row]) -> None:
    """Print the table under the name of the CPU, and write `bench/NAME.json`."""
    cpu = cpu_here()
    cells = [("what", "ours", "peer", "", "value", "goal", "")]
    cells += [
        (
            f"{r.metric}, {r.unit}", _number(r.ours), _number(r.peer), r.peer_name, _number(r.value), _number(r.goal),
            {True: "met", False: "MISSED", None: ""}[r.met],
        )
        for r in rows
    ]  # fmt: skip
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    print(cpu)
    for line in cells:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{name}.json"
    file.write_text(json.dumps([{**asdict(r), "cpu": cpu} for r in rows], indent=2) + "\n")
    print(f"\nwritten to {file}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"
