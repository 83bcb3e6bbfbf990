"""The contrastive stage for few labels: moves the texts of a class closer together before a head is fitted.

The method is SetFit's (Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts"), with one change: the loss
is over all pairs of a batch, each text of which is encoded once, instead of over pairs that are drawn one by one.
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
from components.training.fine_tuning.precision import TrainingPrecision
from predictor.model.engine import pad

# More steps overfit the few texts: 10 and 40 were worse on news topics with eight labels a class.
STEPS = 20
_BATCH = 32
# A class needs a pair in a batch, which limits the classes of a batch. With more classes a step accumulates the
# gradients of several batches, at most _MAX_BATCHES: memory stays that of one batch, and time is bounded.
_MIN_ROWS_PER_CLASS = 2
MAX_CLASSES = _BATCH // _MIN_ROWS_PER_CLASS
_MAX_BATCHES = 5
_LEARNING_RATE = 2e-5
_WARMUP_STEPS = 2
# Shorter texts are not cropped; of others at least this share is kept.
_MIN_CROPPED_TOKENS = 10
_MIN_CROP = 0.4


def contrast(
    model: PreTrainedModel,
    ids: Sequence[Sequence[int]],
    classes: NDArray[np.int64],
    pad_id: int,
    precision: TrainingPrecision,
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
        words: token ids and classes of further texts that are single words; a batch gets as many as of texts.
    """
    model.train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=_LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / _WARMUP_STEPS, (STEPS - step) / (STEPS - _WARMUP_STEPS))
    )
    progress = Progress("contrast", STEPS, "steps")
    random = np.random.default_rng(seed)
    # Texts and words are encoded separately: in one batch the words would be padded to the length of the texts.
    sources = [(ids, classes, BalancedRows(classes, random))]
    if words is not None and len(words[0]):
        sources.append((*words, BalancedRows(words[1], random)))
    classes_of_batches = class_batches(int(classes.max()) + 1, random)
    batches = min(_MAX_BATCHES, math.ceil((int(classes.max()) + 1) / MAX_CLASSES))

    def backward(chosen: Sequence[int]) -> float:
        vectors, truth = [], []
        for source, of, rows in sources:
            batch = rows.batch(chosen)
            tokens, mask = (
                torch.from_numpy(part) for part in pad([crop(source[row], random) for row in batch], pad_id)
            )
            with precision.autocast():
                vectors.append(features(model, tokens, mask, precision).float())
            truth.append(torch.from_numpy(of[batch]))
        loss = pair_loss(torch.cat(vectors), torch.cat(truth).to(precision.device)) / batches
        loss.backward()
        return float(loss.detach())

    for step in range(STEPS):
        loss = sum(backward(next(classes_of_batches)) for _ in range(batches))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        progress(step + 1, f"loss {loss:.3f}")
    model.eval()


def crop(ids: Sequence[int], random: np.random.Generator) -> Sequence[int]:
    """Return a random part of a text, with its first and last token: an augmentation, since there are few texts."""
    body = ids[1:-1]
    if len(body) < _MIN_CROPPED_TOKENS:
        return ids
    length = round(len(body) * random.uniform(_MIN_CROP, 1.0))
    start = int(random.integers(0, len(body) - length + 1))
    return [ids[0], *body[start : start + length], ids[-1]]


def pair_loss(vectors: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of all pairs' cosines, which should be 1 within a class and 0 between classes.

    Pairs within a class and pairs between classes count for half each.

    Args:
        vectors: of shape (texts, width).
        classes: the class of each text.
    """
    unit = normalize(vectors, dim=-1)
    same = (classes[:, None] == classes[None, :]).float()
    errors = (unit @ unit.T - same) ** 2
    alike = same - torch.eye(len(unit), device=unit.device)
    return sum(((errors * kind).sum() / kind.sum().clamp(min=1) for kind in (alike, 1 - same)), torch.tensor(0.0)) / 2


def class_batches(classes: int, random: np.random.Generator) -> Iterator[Sequence[int]]:
    """Yield, without end, the classes of the next batch: all of them, or some in turn where there are too many."""
    queue: list[int] = []
    while True:
        yield range(classes) if classes <= MAX_CLASSES else _take(queue, MAX_CLASSES, range(classes), random)


class BalancedRows:
    """Draws the same number of rows of each class; all rows of a class come before one is repeated.

    Args:
        classes: the class of each row.
        random: draws the order.
    """

    def __init__(self, classes: NDArray[np.int64], random: np.random.Generator) -> None:
        self._members = rows_by_class(classes, int(classes.max()) + 1)
        present = sum(len(rows) > 0 for rows in self._members)
        self._rows_per_class = max(_MIN_ROWS_PER_CLASS, _BATCH // present)
        self._waiting: list[list[int]] = [[] for _ in self._members]
        self._random = random

    def batch(self, chosen: Sequence[int]) -> NDArray[np.int64]:
        """Return rows of the chosen classes, the same number of each class that has any."""
        batch: list[int] = []
        for number in chosen:
            batch += _take(self._waiting[number], self._rows_per_class, self._members[number], self._random)
        return np.array(batch)


def _take(
    queue: list[int], most: int, every: Sequence[int] | NDArray[np.int64], random: np.random.Generator
) -> list[int]:
    """Take up to `most` members from a queue; a queue that runs short is refilled with all members in a new order."""
    take = min(most, len(every))
    if len(queue) < take:
        queue.extend(member for member in random.permutation(every).tolist() if member not in queue[:take])
    taken = queue[:take]
    del queue[:take]
    return taken
