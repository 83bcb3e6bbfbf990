"""How to fine-tune, and how much: `fast` for a first answer, `full` for the best model."""

import math
from dataclasses import dataclass

from predictor.errors import InputError

HISTORY_FILE = "training.json"
PROFILES = ("fast", "full")

# `fast` sees each of at most this many rows once: minutes on two cores.
FAST_ROWS = 24_000
# Little data is seen more often, until about this many texts have been seen in all.
_FAST_TEXTS = 5_400
_FULL_TEXTS = 24_000


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune.

    The rate and the token budget were chosen on AG News rows held out of its training file; see the README.
    """

    epochs: int
    learning_rate: float = 1.2e-4
    weight_decay: float = 0.01
    warmup: float = 0.06
    """Share of the steps over which the learning rate rises from 0; it then falls linearly to 0."""
    batch_tokens: int = 1024
    max_length: int = 128
    gradient_norm: float = 1.0


@dataclass(frozen=True)
class Epoch:
    """One row of the training history; times in seconds, accuracy on the validation split."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    texts_per_second: float


def training_rows(profile: str) -> int:
    """Return the most rows a profile trains on, 0 for all.

    Raises:
        InputError: there is no such profile.
    """
    if profile not in PROFILES:
        raise InputError(f"--profile {profile} is unknown: choose {' or '.join(PROFILES)}")
    return FAST_ROWS if profile == "fast" else 0


def recipe_for(profile: str, rows: int, max_length: int) -> Recipe:
    """Choose the epochs for `rows` training rows: 1 to 6 in `fast`, 2 to 10 in `full`."""
    if profile == "fast":
        epochs = min(6, max(1, round(_FAST_TEXTS / rows)))
    else:
        epochs = min(10, max(2, math.ceil(_FULL_TEXTS / rows)))
    return Recipe(epochs=epochs, max_length=max_length)
