"""The contrastive stage for few labels: pull the texts of a class together before a head is fitted.

The method is SetFit's (Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts"), with one change: the loss
is over all pairs of a batch, whose texts the encoder has seen once each, instead of over pairs drawn one by one.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from components.progress import Progress
from components.training.model import features
from components.training.precision import Precision
from predictor.engine import pad

# More steps only fit the few texts closer: 10 and 40 were worse on news topics with eight labels a class.
STEPS = 20
_BATCH = 32
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
    sources = [(ids, classes, balanced_batches(classes, random))]
    if words is not None and len(words[0]):
        sources.append((*words, balanced_batches(words[1], random)))
    for step in range(STEPS):
        vectors, truth = [], []
        for source, of, batches in sources:
            batch = next(batches)
            tokens, mask = (torch.from_numpy(part) for part in pad([crop(source[r], random) for r in batch], pad_id))
            with precision.autocast():
                vectors.append(features(model, tokens, mask, precision).float())
            truth.append(torch.from_numpy(of[batch]))
        loss = pair_loss(torch.cat(vectors), torch.cat(truth).to(precision.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        progress(step + 1, f"loss {float(loss.detach()):.3f}")
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


def balanced_batches(classes: NDArray[np.int64], random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield batches without end, in which all classes have the same number of rows, as far as they have any.

    The rows of a class take turns, in a new order each time round.
    """
    members = [np.flatnonzero(classes == name) for name in np.unique(classes)]
    share = max(2, _BATCH // len(members))
    waiting: list[list[int]] = [[] for _ in members]
    while True:
        batch: list[int] = []
        for rows, queue in zip(members, waiting, strict=True):
            take = min(share, len(rows))
            if len(queue) < take:
                queue.extend(row for row in random.permutation(rows).tolist() if row not in queue[:take])
            batch += queue[:take]
            del queue[:take]
        yield np.array(batch)
