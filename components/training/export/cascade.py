"""The cascade of a bundle: a linear model, and the confidence from which on it answers in the transformer's place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from sklearn.svm import LinearSVC

from components.data.dataset import Dataset, Split
from components.data.tfidf import writes_spaces
from components.training.export.calibration import fit_temperature
from components.training.export.coverage import fit_levels
from components.training.export.paired import paired_interval
from components.training.export.reliability import calibration_error, reliability
from predictor.model.bundle import CascadeSpec
from predictor.model.calibration import softmax
from predictor.model.cascade import LinearStage, buckets
from predictor.model.ngrams import Unit, hashes, portions
from predictor.model.reference import reference_of
from predictor.model.text import Encoder

# With the cascade at most this share of rows may be lost, by the upper end of the interval.
MAX_LOSS = 0.001
# Fewer exits are not worth a second model.
MIN_SHARE = 0.1
# The threshold is one of those that let these shares of the rows exit. Each has its chance to look good by luck, so
# there are few.
_SHARES = np.arange(5, 101, 5) / 100
# Rows that neither stage was trained on: with fewer nothing can be shown, and more take minutes of the transformer.
LEAST_ROWS = 2_703
_MOST_HELD_OUT = 8_000
# Training rows of the linear model, 200 MB of features.
_MOST_ROWS = 200_000
# Weights take 4 MB; with fewer buckets too many n-grams share one.
_MOST_WEIGHTS = 2**21
_LEAST_BUCKETS = 2**14

Answer = Callable[[list[str]], NDArray[np.float32]]
"""Returns the transformer's probabilities, shape (texts, labels)."""


@dataclass(frozen=True)
class Threshold:
    """From which confidence on the linear model answers, and what that costs."""

    confidence: float
    share: float
    most_loss: float


def build_cascade(
    dataset: Dataset, trained_on: Split, validation: Split, rows: NDArray[np.float32], encoder: Encoder, answer: Answer,
    out: Path,
) -> tuple[CascadeSpec | None, str]:  # fmt: skip
    """Train the linear model and write it beside the transformer, if it may answer enough texts.

    Args:
        dataset: the prepared data; the linear model gets all of its training rows that are not held out.
        trained_on: the training rows that the transformer has seen. Some of the others are held out.
        validation: rows that are held out, too.
        rows: the transformer's probabilities for `validation`, shape (texts, labels).
        encoder: cleans texts, and counts their tokens.
        answer: asks the transformer, for the other rows that are held out.
        out: the bundle's folder.

    Returns:
        What `serving.json` says of it, None where it is not worth it; and the reason in words.
    """
    labels = dataset.labels
    if len(labels) > _MOST_WEIGHTS // _LEAST_BUCKETS:
        return None, f"no cascade, since the linear model of {len(labels):,} classes would be too large"
    extra = _held_out(dataset, trained_on, _MOST_HELD_OUT - len(validation))
    held = Split(pd.concat([validation.frame, extra.frame], ignore_index=True))
    if len(held) < LEAST_ROWS:
        return None, (
            f"no cascade, since {len(held):,} rows cannot show that it loses at most {100 * MAX_LOSS:g} points: "
            f"{LEAST_ROWS:,} can"
        )
    train = Split(dataset.train.frame[~dataset.train.frame["id"].isin(extra.frame["id"])]).sample(_MOST_ROWS, 0)
    stage = train_stage(encoder.clean(train.texts), np.array(train.label_ids(labels)), len(labels))
    logits = stage(encoder.clean(held.texts))
    truth = np.array(held.label_ids(labels))
    linear = softmax(logits, temperature := fit_temperature(logits, truth))
    transformer = np.concatenate([rows, answer(extra.texts)]) if len(extra) else rows
    right = linear.argmax(axis=1) == truth, transformer.argmax(axis=1) == truth
    found = choose_threshold(linear.max(axis=1), *right)
    if found is None or found.share < MIN_SHARE:
        return None, (
            f"no cascade, since the linear model may answer {found.share if found else 0:.0%} of {len(held):,} rows: "
            f"with more it could lose over {100 * MAX_LOSS:g} points"
        )
    exits = linear.max(axis=1) >= found.confidence
    pair = np.where(exits[:, None], linear, transformer)
    pair_right = np.where(exits, *right)
    stage.save(out)
    left = [text for text, gone in zip(validation.texts, exits, strict=False) if not gone]
    lengths = [len(ids) for ids in encoder(left or validation.texts)]
    spec = CascadeSpec(
        unit=stage.unit,
        temperature=temperature,
        threshold=found.confidence,
        rows=len(held),
        share=found.share,
        accuracy=float(pair_right.mean()),
        accuracy_transformer=float(right[1].mean()),
        accuracy_linear=float(right[0].mean()),
        most_loss=found.most_loss,
        calibration_error=calibration_error(reliability(pair.max(axis=1), pair_right)),
        reference=reference_of(pair[: len(validation)], lengths, labels),
        conformal=fit_levels(pair, truth),
    )
    least = (
        f"loses at most {100 * spec.most_loss:.2f}"
        if spec.most_loss > 0
        else f"gains at least {-100 * spec.most_loss:.2f}"
    )
    return spec, (
        f"cascade: a linear model answers {spec.share:.1%} of {spec.rows:,} rows ({spec.accuracy:.2%} as a pair, "
        f"{spec.accuracy_transformer:.2%} the transformer alone), which {least} points"
    )


def train_stage(cleaned: Sequence[str], labels: NDArray[np.int64], classes: int) -> LinearStage:
    """Train a linear SVM, one class against all others, on TF-IDF of hashed n-grams.

    A text's vector is its counts times the inverse document frequency, over the root of its number of units. That is
    close to dividing by its Euclidean length, and serving needs no frequencies: they are part of the weights.

    Args:
        cleaned: texts as the predictor cleans them.
        labels: class ids, shape (texts,), of at least two classes.
        classes: how many classes there are; one without rows is never the answer.
    """
    unit: Unit = "words" if writes_spaces(cleaned) else "characters"
    count = _LEAST_BUCKETS
    while 2 * count * classes <= _MOST_WEIGHTS:
        count *= 2
    counts = _counts(cleaned, unit, count)
    frequency = np.bincount(counts.indices, minlength=count)
    idf = np.log((1 + len(cleaned)) / (1 + frequency)) + 1
    vectors = counts @ diags(idf)
    # The solver's regularisation wants vectors of length 1.
    scale = 1 / np.sqrt(vectors.multiply(vectors).sum(axis=1)).mean()
    model = LinearSVC(C=0.5, random_state=0).fit((vectors * scale).tocsr(), labels)
    weights, bias = np.zeros((count, classes)), np.full(classes, -np.inf)
    coefficients, intercept = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # sklearn scores the second against the first
        coefficients, intercept = np.concatenate([-coefficients, coefficients]), np.append(-intercept, intercept)
    weights[:, model.classes_] = coefficients.T * (idf * scale)[:, None]
    bias[model.classes_] = intercept
    return LinearStage.rounded(weights, bias, unit)


def choose_threshold(
    confidence: NDArray[np.float32], linear_right: NDArray[np.bool_], transformer_right: NDArray[np.bool_]
) -> Threshold | None:
    """Return the lowest threshold with which the pair is shown to lose at most `MAX_LOSS` against the transformer.

    Args:
        confidence: the linear model's, of each held-out row.
        linear_right: where the linear model is right.
        transformer_right: where the transformer is right.

    Returns:
        None where no threshold will do.
    """
    order = np.sort(confidence)[::-1]
    lost, won = transformer_right & ~linear_right, linear_right & ~transformer_right
    for share in _SHARES[::-1]:
        threshold = order[max(1, int(share * len(order))) - 1]
        exits = confidence >= threshold
        _, loss = paired_interval(int(lost[exits].sum()), int(won[exits].sum()), len(order))
        if loss <= MAX_LOSS:
            return Threshold(float(threshold), float(exits.mean()), loss)
    return None


def _held_out(dataset: Dataset, trained_on: Split, most: int) -> Split:
    """Return at most a quarter of the training rows that the transformer has not seen."""
    fresh = Split(dataset.train.frame[~dataset.train.frame["id"].isin(trained_on.frame["id"])])
    count = max(0, min(most, len(fresh) // 4))
    return fresh.sample(count, 0) if count else Split(fresh.frame.iloc[:0])


def _counts(cleaned: Sequence[str], unit: Unit, count: int) -> csr_matrix:
    """Return n-gram counts over the root of a text's units, shape (texts, buckets)."""
    data, columns, lengths = [], [], []
    for part in portions(cleaned):
        found, bounds = hashes(part, unit)
        units = np.diff(bounds)
        columns.append(buckets(found, count).ravel())
        lengths.append(units * found.shape[1])
        data.append(np.repeat(1 / np.sqrt(units), units * found.shape[1]))
    ends = np.append(0, np.cumsum(np.concatenate(lengths)))
    counts = csr_matrix((np.concatenate(data), np.concatenate(columns), ends), shape=(len(cleaned), count))
    counts.sum_duplicates()
    return counts
