"""The contrastive stage for few labels: pull the texts of a class together before a head is fitted.

The method is SetFit's (Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts"), with one change: the loss
is over all pairs of a batch, whose texts the encoder has seen once each, instead of over pairs drawn one by one.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from components.platform.progress import Progress
from components.training.fine_tuning.batches import rows_by_class
from components.training.fine_tuning.model import features
from components.training.fine_tuning.precision import Precision
from predictor.model.engine import pad

# More steps only fit the few texts closer: 10 and 40 were worse on news topics with eight labels a class.
STEPS = 20
_BATCH = 32
# A class needs a pair in a batch, so a batch holds so many classes. Where there are more, a step learns from several
# batches, one after the other; memory stays that of one, and time that of so many.
_LEAST_ROWS = 2
CLASSES = _BATCH // _LEAST_ROWS
_PARTS = 5
_RATE = 2e-5
_WARMUP = 2
# Texts of fewer tokens stay whole; of others at least this share is shown.
_SHORT = 10
_LEAST = 0.4


def contrast(
    model: PreTrainedModel,
    ids: Sequence[Sequence[int]],
    classes: NDArray[np.int64],
    pad_id: int,
    precision: Precision,
    seed: int,
    words: tuple[Sequence[Sequence[int]], NDArray[np.int64]] | None = None,
) -> None:
    """Train the encoder, in place, to put the texts of a class near each other and those of others far away.

    Args:
        model: a classifier; its head is left alone.
        ids: token ids of the texts.
        classes: the class of each text.
        pad_id: what a batch is padded with.
        precision: how to compute.
        seed: fixes the batches.
        words: token ids and classes of words, of which each batch gets as many as of texts.
    """
    model.train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / _WARMUP, (STEPS - step) / (STEPS - _WARMUP))
    )
    progress = Progress("contrast", STEPS, "steps")
    random = np.random.default_rng(seed)
    # Texts and words pass the encoder apart: together, words would be padded to the length of texts.
    sources = [(ids, classes, BalancedRows(classes, random))]
    if words is not None and len(words[0]):
        sources.append((*words, BalancedRows(words[1], random)))
    turns = class_turns(int(classes.max()) + 1, random)
    parts = min(_PARTS, math.ceil((int(classes.max()) + 1) / CLASSES))

    def learn_from(chosen: Sequence[int]) -> float:
        vectors, truth = [], []
        for source, of, rows in sources:
            batch = rows.batch(chosen)
            tokens, mask = (
                torch.from_numpy(part) for part in pad([crop(source[row], random) for row in batch], pad_id)
            )
            with precision.autocast():
                vectors.append(features(model, tokens, mask, precision).float())
            truth.append(torch.from_numpy(of[batch]))
        loss = pair_loss(torch.cat(vectors), torch.cat(truth).to(precision.device)) / parts
        loss.backward()
        return float(loss.detach())

    for step in range(STEPS):
        loss = sum(learn_from(next(turns)) for _ in range(parts))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        progress(step + 1, f"loss {loss:.3f}")
    model.eval()


def crop(ids: Sequence[int], random: np.random.Generator) -> Sequence[int]:
    """Return a stretch of a text, its first and last token kept: few texts then show many faces."""
    body = ids[1:-1]
    if len(body) < _SHORT:
        return ids
    length = round(len(body) * random.uniform(_LEAST, 1.0))
    start = int(random.integers(0, len(body) - length + 1))
    return [ids[0], *body[start : start + length], ids[-1]]


def pair_loss(vectors: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the mean squared distance of all pairs' cosines from 1 (same class) or 0; either kind counts for half.

    Args:
        vectors: of shape (texts, width).
        classes: the class of each text.
    """
    unit = normalize(vectors, dim=-1)
    same = (classes[:, None] == classes[None, :]).float()
    errors = (unit @ unit.T - same) ** 2
    alike = same - torch.eye(len(unit), device=unit.device)
    return sum(((errors * kind).sum() / kind.sum().clamp(min=1) for kind in (alike, 1 - same)), torch.tensor(0.0)) / 2


def class_turns(classes: int, random: np.random.Generator) -> Iterator[Sequence[int]]:
    """Yield without end the classes of a batch: all of them, or where these are too many, some that take turns."""
    queue: list[int] = []
    while True:
        yield range(classes) if classes <= CLASSES else _next(queue, CLASSES, range(classes), random)


class BalancedRows:
    """Rows that take turns, in a new order each time round, so many of each class.

    Args:
        classes: the class of each row.
        random: draws the order.
    """

    def __init__(self, classes: NDArray[np.int64], random: np.random.Generator) -> None:
        self._members = rows_by_class(classes, int(classes.max()) + 1)
        present = sum(len(rows) > 0 for rows in self._members)
        self._share = max(_LEAST_ROWS, _BATCH // present)
        self._waiting: list[list[int]] = [[] for _ in self._members]
        self._random = random

    def batch(self, chosen: Sequence[int]) -> NDArray[np.int64]:
        """Return rows of the chosen classes, of each the same number, as far as it has any."""
        batch: list[int] = []
        for number in chosen:
            batch += _next(self._waiting[number], self._share, self._members[number], self._random)
        return np.array(batch)


def _next(
    queue: list[int], most: int, every: Sequence[int] | NDArray[np.int64], random: np.random.Generator
) -> list[int]:
    """Take up to `most` members from a queue, which is filled up with all of them in a new order when it runs short."""
    take = min(most, len(every))
    if len(queue) < take:
        queue.extend(member for member in random.permutation(every).tolist() if member not in queue[:take])
    taken = queue[:take]
    del queue[:take]
    return taken
