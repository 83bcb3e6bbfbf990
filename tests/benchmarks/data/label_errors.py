"""How many of the rows that are most suspect have a label that was made wrong."""

from pathlib import Path

import numpy as np
import pandas as pd

from components.data.label_errors import MOST_ROWS, probable_label_errors
from tests.benchmarks.table import Row, row

_FLIPPED, _SUSPECTS, _GOAL, _SEED = 0.05, 1000, 80.0, 1


def measure(folder: Path) -> list[Row]:
    """Flip labels of AG News at random, and count the flipped ones among the most suspect rows."""
    frame = pd.read_csv(folder / "train.csv.gz")
    random = np.random.default_rng(_SEED)
    frame = frame.iloc[random.permutation(len(frame))[:MOST_ROWS]]
    names, true = np.unique(frame["label"], return_inverse=True)
    flipped = random.random(len(frame)) < _FLIPPED
    other = (true + random.integers(1, len(names), len(frame))) % len(names)
    given = names[np.where(flipped, other, true)]
    found = probable_label_errors(frame["text"].tolist(), given.tolist(), _SEED)
    share = 100 * flipped[found.rows[:_SUSPECTS]].mean()
    return [
        row(f"flipped labels among the {_SUSPECTS:,} most suspect of {len(frame):,} rows", "%", share, goal=_GOAL),
        row("flipped labels that are listed", "%", 100 * flipped[found.rows].sum() / flipped.sum()),
        row("rows listed that were not flipped", "%", 100 * (~flipped[found.rows]).sum() / len(frame)),
    ]
