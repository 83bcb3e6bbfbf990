"""Which rows go together: batches of similar length under a token budget, and the rows of each class."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# Rows that are sorted together: enough for batches of near-equal lengths, few enough to keep the order random.
WINDOW = 2048


def token_batches(lengths: Sequence[int], budget: int, seed: int, epoch: int) -> Iterator[list[int]]:
    """Yield every row once an epoch, in batches whose rows times longest length stay within the budget.

    Rows are shuffled, sorted by length inside windows, cut into batches, and the batches of a window shuffled. The
    order depends on the seed and the epoch only. A text longer than the whole budget has a batch of its own.

    Args:
        lengths: tokens of each row.
        budget: the most padded tokens in a batch.
        seed: the run's seed.
        epoch: counts from 0.
    """
    random = np.random.default_rng((seed, epoch))
    shuffled = random.permutation(len(lengths))
    for start in range(0, len(shuffled), WINDOW):
        window = sorted(shuffled[start : start + WINDOW].tolist(), key=lambda row: lengths[row])
        batches = _cut(window, lengths, budget)
        for index in random.permutation(len(batches)):
            yield batches[index]


def _cut(rows: list[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    batches: list[list[int]] = []
    batch: list[int] = []
    for row in rows:  # sorted, so the newest row is the longest
        if batch and (len(batch) + 1) * lengths[row] > budget:
            batches.append(batch)
            batch = []
        batch.append(row)
    if batch:
        batches.append(batch)
    return batches


def rows_by_class(classes: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Return the rows of each of `count` classes, in their order; in one pass, however many classes there are."""
    ends = np.cumsum(np.bincount(classes, minlength=count))
    return np.split(np.argsort(classes, kind="stable"), ends[:-1])
