"""A classifier from a bundle: the code path that evaluation measures and the server serves."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predictor.model.bundle import Bundle, Precision
from predictor.model.calibration import answer_of, ordinal_scores, sigmoid, softmax
from predictor.model.cascade import Cascade
from predictor.model.conformal import Conformal
from predictor.model.engine import Engine, Logits, load_engine
from predictor.model.reference import Reference
from predictor.model.text import Encoder

# Texts in a model call: the fastest of 1 to 32 for int8 MiniLM on one core; more only add padding.
BATCH = 8


def run_sorted(
    engine: Engine,
    ids: Sequence[Sequence[int]],
    pool: ThreadPoolExecutor,
    done: Callable[[int], None] | None = None,
) -> Logits:
    """Run texts of mixed lengths through the engine in batches of similar length, on all its lanes.

    Args:
        engine: the engine.
        ids: token ids of each text.
        pool: at least as many threads as the engine has lanes.
        done: called after each batch with the number of finished texts.

    Returns:
        Logits of shape (texts, labels), in the order of `ids`.
    """
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    parts = pool.map(lambda rows: engine([ids[row] for row in rows]), batches)
    logits: Logits | None = None
    finished = 0
    for rows, part in zip(batches, parts, strict=True):
        if logits is None:
            logits = np.empty((len(ids), part.shape[1]), dtype=np.float32)
        logits[rows] = part
        finished += len(rows)
        if done:
            done(finished)
    if logits is None:
        raise ValueError("no texts to run")
    return logits


@dataclass(frozen=True)
class Answer:
    """The answer for one text; `probabilities` are in the order of the bundle's labels."""

    label: str
    """Of a multi-label model all labels that the text has, joined by `|`."""
    confidence: float
    """Of a multi-label model the probability that its least sure decision about a label is right."""
    probabilities: tuple[float, ...]
    score: float | None = None
    """From -1, the lowest label, to 1, the highest; None where the labels have no order."""


class Classifier:
    """Classifies texts with one bundle.

    Args:
        path: the bundle's folder.
        precision: an engine other than the one the bundle chose.
        cascade: whether the linear model of a bundle that has one may answer; else the transformer answers all texts.

    Raises:
        InputError: the folder is not a bundle that this release can read.
    """

    thresholds: NDArray[np.float32] | None = None
    """Of a multi-label model, from which probability on a text has each label; None where a text has one label."""

    def __init__(self, path: Path, precision: Precision | None = None, cascade: bool = True) -> None:
        self.bundle = Bundle.open(path)
        self.labels = self.bundle.spec.labels
        self.encoder = Encoder(path, self.bundle.spec.max_length, self.bundle.spec.cleaning)
        self.precision = precision or self.bundle.spec.precision
        self.thresholds = self.bundle.spec.least
        self._engine = load_engine(self.bundle, self.precision)
        self.lanes = self._engine.lanes
        self.about = self._engine.about
        """What computes, in words."""
        self._pool = ThreadPoolExecutor(self._engine.lanes, thread_name_prefix="engine")
        self.cascade = Cascade.load(path, self.bundle.spec) if cascade else None
        """Answers some texts in the transformer's place."""

    @property
    def reference(self) -> Reference:
        """How it answered on its validation split."""
        return self.cascade.spec.reference if self.cascade else self.bundle.spec.reference

    @property
    def conformal(self) -> Conformal | None:
        """The thresholds of its label sets; None where the bundle has none."""
        return self.cascade.spec.conformal if self.cascade else self.bundle.spec.conformal

    def probabilities(self, texts: Sequence[str], done: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Return calibrated class probabilities, float32 of shape (texts, labels)."""
        return self.cleaned_probabilities(self.encoder.clean(texts), done)

    def cleaned_probabilities(
        self, cleaned: Sequence[str], done: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Return the same for texts that the encoder has cleaned, which are not cleaned again."""
        if not cleaned:
            return np.empty((0, len(self.labels)), dtype=np.float32)
        if self.cascade is None:
            return self._transformed(cleaned, done)
        rows, exits = self.cascade(cleaned)
        finished = int(exits.sum())
        if done:
            done(finished)
        if left := [text for text, gone in zip(cleaned, exits, strict=True) if not gone]:
            rows[~exits] = self._transformed(left, lambda count: done(finished + count) if done else None)
        return rows

    def _transformed(self, cleaned: Sequence[str], done: Callable[[int], None] | None) -> NDArray[np.float32]:
        logits = run_sorted(self._engine, self.encoder.encode(cleaned), self._pool, done)
        return self._calibrated(logits)

    def run(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return the probabilities of one batch of token ids; safe in as many threads at once as there are `lanes`."""
        return self._calibrated(self._engine(ids))

    def _calibrated(self, logits: Logits) -> NDArray[np.float32]:
        calibrate = softmax if self.thresholds is None else sigmoid
        return calibrate(logits, self.bundle.spec.temperature)

    def classify(self, texts: Sequence[str]) -> list[Answer]:
        """Return the answer for each text, in order."""
        rows = self.probabilities(texts)
        answers, confidences = answer_of(rows, self.labels, self.thresholds)
        scores = ordinal_scores(rows).tolist() if self.bundle.spec.ordinal else [None] * len(rows)
        return [
            Answer(label, sure, tuple(map(float, row)), score)
            for row, label, sure, score in zip(rows, answers, confidences.tolist(), scores, strict=True)
        ]

    def close(self) -> None:
        """Let running calls end and stop the threads."""
        self._pool.shutdown()
