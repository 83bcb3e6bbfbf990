"""Models without a class, their reference rows, and windows of real text that are shifted in known ways."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.monitoring.drift.rows import ReferenceRows, Window
from components.training.export.calibration import fit_temperature
from components.training.export.cascade import train_stage
from predictor.model.bundle import REFERENCE_ROWS
from predictor.model.calibration import softmax
from predictor.model.cascade import LinearStage
from predictor.model.text import clean

TRAINED, VALIDATED = 45_000, 48_500
"""Rows up to which a model is trained, and up to which it is validated; windows are drawn from those behind."""
_TYPOS = 0.08


@dataclass(frozen=True)
class Model:
    """The linear stage of a bundle, trained without a class, calibrated, and what it would keep as its reference."""

    labels: list[str]
    stage: LinearStage
    temperature: float
    reference: ReferenceRows
    accuracy: float

    def answers(self, texts: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
        """Return the label and the confidence of each answer."""
        rows = softmax(self.stage(texts), self.temperature)
        return [self.labels[place] for place in rows.argmax(axis=1)], rows.max(axis=1).astype(np.float64)


def trained(frame: pd.DataFrame, without: str, rows: int = TRAINED) -> Model:
    """Train on the first rows of a shuffled table, but for those of a class."""
    kept = frame[frame["label"] != without]
    train, held = kept[kept["row"] < rows], kept[kept["row"].between(TRAINED, VALIDATED - 1)]
    labels = sorted(train["label"].unique())
    ids = {label: place for place, label in enumerate(labels)}
    stage = train_stage(train["text"].tolist(), np.array([ids[label] for label in train["label"]]), len(labels))
    truth = np.array([ids[label] for label in held["label"]])
    temperature = fit_temperature(stage(held["text"].tolist()), truth)
    first = held.iloc[:REFERENCE_ROWS]
    model = Model(labels, stage, temperature, ReferenceRows([], [], [], np.zeros(0)), 0.0)
    answers, confidence = model.answers(first["text"].tolist())
    reference = ReferenceRows(first["text"].tolist(), first["label"].tolist(), answers, confidence)
    right = float(np.mean([answer == label for answer, label in zip(answers, reference.labels, strict=True)]))
    return Model(labels, stage, temperature, reference, right)


def prepared(train: pd.DataFrame) -> pd.DataFrame:
    """Return cleaned rows in random order, with their number as `row`."""
    frame = train.sample(frac=1, random_state=0).reset_index(drop=True)
    frame["text"] = [clean(text) for text in frame["text"]]
    frame["row"] = range(len(frame))
    return frame


Change = Callable[[str, np.random.Generator], str]


def lowered(text: str, random: np.random.Generator) -> str:
    """Write it in lower case."""
    return text.lower()


def misspelt(text: str, random: np.random.Generator) -> str:
    """Exchange letters with their neighbours."""
    letters = list(text)
    for place in np.flatnonzero(random.random(max(0, len(letters) - 1)) < _TYPOS):
        letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)


def cut(text: str, random: np.random.Generator) -> str:
    """Keep the first half."""
    return text[: max(1, len(text) // 2)]


STYLES: dict[str, Change] = {"lower case": lowered, "typos": misspelt, "cut": cut}


@dataclass(frozen=True)
class Drawn:
    """A window, and the truth about it."""

    window: Window
    accuracy: float


def window_of(model: Model, frame: pd.DataFrame) -> Drawn:
    """Let a model answer rows."""
    texts = frame["text"].tolist()
    answers, confidence = model.answers(texts)
    right = float(np.mean([answer == label for answer, label in zip(answers, frame["label"], strict=True)]))
    return Drawn(Window([str(row) for row in range(len(texts))], texts, answers, confidence), right)


def mixed(
    pool: pd.DataFrame, others: pd.DataFrame, share: float, rows: int, random: np.random.Generator
) -> pd.DataFrame:
    """Draw rows of which a share are others."""
    count = round(share * rows)
    parts = [pool.iloc[random.choice(len(pool), rows - count, replace=False)]]
    parts += [others.iloc[random.choice(len(others), count, replace=False)]] if count else []
    return pd.concat(parts, ignore_index=True)


def restyled(frame: pd.DataFrame, change: Change, share: float, random: np.random.Generator) -> pd.DataFrame:
    """Change the texts of a share of the rows."""
    chosen = random.random(len(frame)) < share
    texts = [change(text, random) if now else text for text, now in zip(frame["text"], chosen, strict=True)]
    return frame.assign(text=texts)
