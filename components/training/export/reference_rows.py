"""Validation rows that a bundle keeps with its answers to them, so that later texts can be compared with both."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.data.dataset import Split
from predictor.model.bundle import REFERENCE_FILE, REFERENCE_ROWS, CascadeSpec
from predictor.model.calibration import answer_of
from predictor.model.cascade import Cascade, LinearStage
from predictor.model.text import Encoder

_SEED = 0


def write_reference_rows(
    validation: Split, rows: NDArray[np.float32], encoder: Encoder, labels: list[str], cascade: CascadeSpec | None,
    out: Path, thresholds: NDArray[np.float32] | None = None,
) -> None:  # fmt: skip
    """Write `reference.parquet`, with the columns `text` (cleaned), `label`, `answer` and `confidence`.

    Args:
        validation: at most `REFERENCE_ROWS` of its rows are kept, drawn at random, so that they have its shares.
        rows: the transformer's probabilities for all of them, shape (texts, labels).
        encoder: cleans texts as they are served.
        labels: names of the classes.
        cascade: the linear model that answers in the transformer's place, as it is served; its file is in `out`.
        out: the bundle's folder.
        thresholds: of a multi-label model, whose labels of a text are joined by `|`.
    """
    count = min(REFERENCE_ROWS, len(validation))
    kept = np.sort(np.random.default_rng(_SEED).choice(len(validation), count, replace=False))
    texts = encoder.clean(validation.texts[row] for row in kept)
    answers = rows[kept]
    if cascade:
        linear, exits = Cascade(LinearStage.load(out, cascade.unit, len(labels)), cascade)(texts)
        answers = np.where(exits[:, None], linear, answers)
    given, confidence = answer_of(answers, labels, thresholds)
    frame = pd.DataFrame(
        {
            "text": texts,
            "label": [validation.labels[row] for row in kept],
            "answer": given,
            "confidence": confidence.astype(np.float64),
        }
    )
    frame.to_parquet(out / REFERENCE_FILE, index=False)
