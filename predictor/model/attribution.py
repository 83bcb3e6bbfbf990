"""What each part of a text adds to the score of a label: how much it speaks for the label, or against it.

The score is what the label's logit, over the temperature, has above the mean of the other labels' logits. With two
labels that is the log-odds of the answer. Unlike a probability it has no ceiling, and unlike a logit it does not move
where all logits do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictor.model.cascade import Cascade
from predictor.model.ngrams import spans

Span = tuple[int, int]
"""The first character of a part of the cleaned text, and the one after the last."""

_EXACT = "weights of the linear model, exact"
_LEAST_DIFFERENCE = 1e-6  # a float32 has no more


@dataclass(frozen=True)
class Part:
    """A word, or a token, of the cleaned text; `text[start:end]` are its characters."""

    start: int
    end: int
    attribution: float


@dataclass(frozen=True)
class Attribution:
    """How the score of a label comes about: `baseline`, the parts and `rest` add up to `score`, but for `gap`."""

    method: str
    score: float
    baseline: float
    """The score of a text that says nothing."""
    rest: float
    """What has no place in the text, such as its end."""
    gap: float
    """What is missing in the sum, as a share of the difference between `score` and `baseline`."""
    tokens: list[Part]
    words: list[Part]
    truncated: bool = False
    """Whether the text is longer than what the model reads."""


def contrast(labels: int, label: int, usable: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return the weights of the logits in the score of a label, shape (labels,): they sum to 0.

    Args:
        labels: how many there are.
        label: whose score it is.
        usable: which labels count; all where it is None.
    """
    others = np.ones(labels, dtype=bool) if usable is None else usable.copy()
    others[label] = False
    weights = np.where(others, -1.0 / max(1, others.sum()), 0.0)
    weights[label] = 1.0
    return weights


def linear_attribution(cascade: Cascade, cleaned: str, label: int) -> Attribution:
    """Attribute the answer of a cascade's linear model: exactly, since its score is a sum over the text's n-grams.

    An n-gram's part is divided evenly between its words, or its characters. The baseline is the model without any
    n-gram, so it is the bias.

    Args:
        cascade: the first stage.
        cleaned: the text as `Encoder.clean` returns it.
        label: number of the label.
    """
    stage = cascade.stage
    # A label without training rows is never the answer, and has a bias of minus infinity.
    weights = contrast(len(stage.bias), label, np.isfinite(stage.bias)) / cascade.spec.temperature
    rows = stage.contributions(cleaned, weights)
    baseline = float(np.where(weights != 0, stage.bias, 0.0) @ weights)
    places = spans(cleaned, stage.unit)
    shares = np.zeros(len(places))
    for size in range(1, rows.shape[1] + 1):
        for offset in range(size):
            # Of a row's n-gram, the words that are there: near the end it has fewer.
            there = np.minimum(size, len(places) - np.arange(len(places)))
            starts = np.flatnonzero(there > offset)
            np.add.at(shares, starts + offset, rows[starts, size - 1] / there[starts])
    rest = float(rows[len(places) :].sum())
    tokens = [Part(*place, share) for place, share in zip(places, shares.tolist(), strict=True)]
    score = float(np.where(weights != 0, stage([cleaned])[0], 0.0) @ weights)
    found = float(shares.sum()) + rest
    return Attribution(
        _EXACT, score, baseline, rest, gap(found, score - baseline), tokens, tokens, places[-1][1] < len(cleaned)
    )


def gap(found: float, difference: float) -> float:
    """Return how far a sum of attributions is from the difference between two scores, as a share of it."""
    return abs(found - difference) / max(abs(difference), _LEAST_DIFFERENCE)


def joined(tokens: Sequence[Part], words: Sequence[int | None]) -> list[Part]:
    """Return the words of a text: neighbouring tokens of one number are one word, a token without one is its own."""
    found: list[Part] = []
    before: int | None = None
    for token, word in zip(tokens, words, strict=True):
        if found and word is not None and word == before:
            last = found.pop()
            token = Part(last.start, token.end, last.attribution + token.attribution)
        found.append(token)
        before = word
    return found
