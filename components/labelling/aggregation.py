"""Which label a row gets when people disagree. Where two labels are as good, both are returned: nothing is chosen here.

Rows, annotators and labels are numbers, one answer of an annotator a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from components.labelling.agreement import Numbers
from components.platform.progress import say
from predictor.errors import InputError

_MOST_CELLS = 30_000_000
"""Answers times classes: crowd-kit holds a few tables of this many numbers, 240 MB each."""
_EVEN = 0.01
"""Two labels are as good if their probabilities differ by less."""
_STEPS = 200


@dataclass(frozen=True)
class Consensus:
    """The best labels of each row: one, or several where they are as good."""

    best: Sequence[Sequence[int]]
    overruled: int = 0
    """Rows in which all answers were one label and Dawid-Skene preferred another; they keep the answers' label."""
    note: str = ""
    """What a reader of the result should know."""


def majority(rows: Numbers, labels: Numbers) -> Consensus:
    """Return the most frequent labels of each row."""
    counts = pd.Series(1, index=pd.MultiIndex.from_arrays([rows, labels])).groupby(level=[0, 1]).sum()
    best = counts[counts == counts.groupby(level=0).transform("max")]
    found: list[list[int]] = [[] for _ in range(rows.max() + 1)]
    for row, label in best.index.tolist():
        found[row].append(label)
    return Consensus(found)


def dawid_skene(rows: Numbers, annotators: Numbers, labels: Numbers) -> Consensus:
    """Return the most probable labels of each row by the model of Dawid and Skene, as crowd-kit fits it.

    "Maximum likelihood estimation of observer error-rates using the EM algorithm" (1979): each annotator has a table of
    what they say to each true class, and counts for as much as that table tells. crowd-kit starts with the majority,
    and smooths nothing: a class that an annotator never used has a probability of 1e-10.

    Raises:
        InputError: there are too many answers and classes for the memory of one machine.
    """
    from crowdkit.aggregation.classification.dawid_skene import DawidSkene

    classes = len(np.unique(labels))
    if len(labels) * classes > _MOST_CELLS:
        raise InputError(
            f"Dawid-Skene cannot take {len(labels):,} answers in {classes:,} classes: use --method majority, or merge "
            "a part at a time"
        )
    # In one order, whatever the file's: sums of floats depend on it
    order = np.lexsort((annotators, rows))
    frame = pd.DataFrame({"task": rows[order], "worker": annotators[order], "label": labels[order]})
    say(f"Dawid-Skene: {len(frame):,} answers in {classes:,} classes")
    model = DawidSkene(n_iter=_STEPS)
    found = model.fit_predict_proba(frame).sort_index()
    found = found[sorted(found.columns)]
    names, values = found.columns.to_numpy(), found.to_numpy()
    best = [names[row >= row.max() - _EVEN].tolist() for row in values]
    agreed = _unanimous(rows, labels)
    overruled = 0
    for row, label in agreed.items():
        overruled += best[row] != [label]
        best[row] = [label]
    # The last step of one that converged is small; the loss goes up
    steps = len(model.loss_history_)
    note = f"Dawid-Skene did not converge in {steps} steps" if steps >= _STEPS else ""
    return Consensus(best, overruled, note)


def _unanimous(rows: Numbers, labels: Numbers) -> dict[int, int]:
    """Return the label of each row whose answers are all the same."""
    frame = pd.DataFrame({"row": rows, "label": labels}).groupby("row")["label"].agg(["min", "max"])
    same = frame[frame["min"] == frame["max"]]["min"]
    return dict(zip(same.index.tolist(), same.tolist(), strict=True))
