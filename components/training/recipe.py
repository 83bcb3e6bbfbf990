"""The recipe of a training: method, hyper-parameters and amount; `fast` for a first model, `full` for the best."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

from predictor.errors import InputError
from predictor.label_sets import labels_in

HISTORY_FILE = "training.json"
PROFILES = ("fast", "full")

# `fast` takes at most this many rows, and of so many each once: minutes on two cores.
FAST_ROWS = 24_000
# Fewer rows are seen up to three times within the same number of texts, and few rows up to six times, until about
# so many texts have been seen in all.
_FAST_EPOCHS, _FEW_EPOCHS, _FAST_TEXTS = 3, 6, 5_400
_FULL_TEXTS = 24_000

Method = Literal["few-shot", "frozen", "full"]
# Labels a class from which on the next method is used.
FEW_SHOT_LABELS = 32
FINE_TUNING_LABELS = 100
# The most classes for contrastive training: of more, each would be in a few steps only, and the steps take minutes.
FEW_SHOT_CLASSES = 80


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune.

    The rate and the token budget were chosen on AG News rows held out of its training file.
    """

    epochs: int
    method: Method = "full"
    """`few-shot`: contrastive steps, then a head; `frozen`: only a head; `full`: all weights are fine-tuned."""
    learning_rate: float = 1.2e-4
    weight_decay: float = 0.01
    warmup: float = 0.06
    """Share of the steps over which the learning rate rises from 0; it then falls linearly to 0."""
    batch_tokens: int = 1024
    max_length: int = 128
    gradient_norm: float = 1.0
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    balance_classes: bool = False
    """Weight each class by the inverse of its share, so that rare classes count as much as common ones."""
    patience: int = 0
    """Stop after this many epochs without a better validation accuracy; 0 never stops early."""

    def with_hyperparameters(self, values: Mapping[str, str]) -> "Recipe":
        """Return the recipe with hyper-parameters set by name, as Katib assigns them.

        Args:
            values: any of `learning_rate`, `weight_decay`, `warmup`, `batch_tokens`, `epochs`, `label_smoothing`,
                numbers as text.

        Raises:
            InputError: an unknown name, or a value that is no number or out of range.
        """
        changes: dict[str, float | int] = {}
        for name, text in values.items():
            if name not in TUNABLE:
                raise InputError(f"hyper-parameter '{name}' is unknown: choose from {', '.join(TUNABLE)}")
            kind, low, high = TUNABLE[name]
            try:
                number = float(text)
            except ValueError:
                number = math.nan
            if not low <= number <= high:
                raise InputError(f"hyper-parameter {name} is {text}: give a number from {low:g} to {high:g}")
            changes[name] = kind(round(number)) if kind is int else number
        return replace(self, **changes)  # type: ignore[arg-type]


TUNABLE: dict[str, tuple[type, float, float]] = {
    "learning_rate": (float, 1e-8, 1.0),
    "weight_decay": (float, 0.0, 1.0),
    "warmup": (float, 0.0, 0.9),
    "batch_tokens": (int, 16, 1_000_000),
    "epochs": (int, 1, 1000),
    "label_smoothing": (float, 0.0, 0.9),
}


def read_assignments(file: Path) -> dict[str, str]:
    """Read hyper-parameters from what `pigeonhole tune` printed, or from a JSON object of them alone.

    Raises:
        InputError: it is neither, or a value is no number in its range.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--hyperparameters {file} cannot be read ({error}): give the JSON that pigeonhole tune prints"
        ) from error
    found = content.get("hyperparameters", content) if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found:
        raise InputError(f"--hyperparameters {file} holds none: give the JSON that pigeonhole tune prints")
    values = {str(name): str(value) for name, value in found.items()}
    try:
        Recipe(epochs=1).with_hyperparameters(values)
    except InputError as error:
        raise InputError(f"--hyperparameters {file}: {error}") from None
    return values


@dataclass(frozen=True)
class Epoch:
    """One row of the training history; times in seconds, accuracy on the validation split.

    Of multi-label data the accuracy is micro F1, with a label from a probability of a half on.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    texts_per_second: float
    every_class_answered: bool = True
    """Whether each class of the validation split was predicted at least once."""

    @property
    def rank(self) -> tuple[bool, float]:
        """What epochs are compared by: the gate refuses a model that never predicts one of its classes."""
        return self.every_class_answered, self.validation_accuracy


def training_rows(profile: str) -> int:
    """Return the most rows a profile trains on, 0 for all.

    Raises:
        InputError: there is no such profile.
    """
    if profile not in PROFILES:
        raise InputError(f"--profile {profile} is unknown: choose {' or '.join(PROFILES)}")
    return FAST_ROWS if profile == "fast" else 0


def recipe_for(profile: str, rows: int, max_length: int, method: Method = "full") -> Recipe:
    """Choose how to train on `rows` rows: fine-tuning sees them 1 to 6 times in `fast`, 3 to 10 times in `full`."""
    if method != "full":
        return Recipe(epochs=1, method=method, max_length=max_length)
    if profile == "fast":
        few, many = min(_FEW_EPOCHS, round(_FAST_TEXTS / rows)), min(_FAST_EPOCHS, round(FAST_ROWS / rows))
        return Recipe(epochs=max(few, many, 1), max_length=max_length)
    epochs = min(10, max(3, math.ceil(_FULL_TEXTS / rows)))
    return Recipe(epochs=epochs, learning_rate=8e-5, label_smoothing=0.05, max_length=max_length)


def choose_method(
    labels: Sequence[str], hyperparameters: Mapping[str, str], multi_label: bool = False
) -> tuple[Method, str]:
    """Return how to train on rows with these labels, and why in words.

    Args:
        labels: the label of each training row; of multi-label data its labels, joined by `|`.
        hyperparameters: those set by name; all are of fine-tuning, so with any of them that is the method.
        multi_label: whether a row has any number of labels. Contrastive training is then left out, since two rows with
            some labels in common are neither of one class nor of two.
    """
    counts = Counter(label for text in labels for label in labels_in(text, multi_label))
    typical, classes = round(median(counts.values())), len(counts)
    fewer = f"since {typical} labels a class are fewer than"
    if hyperparameters:
        return "full", "fine-tuning, since its hyper-parameters were given"
    if multi_label and typical < FINE_TUNING_LABELS:
        return "frozen", f"a head on frozen embeddings, {fewer} {FINE_TUNING_LABELS}"
    if typical < FEW_SHOT_LABELS and classes <= FEW_SHOT_CLASSES:
        return "few-shot", f"contrastive few-shot, {fewer} {FEW_SHOT_LABELS}"
    if typical < FEW_SHOT_LABELS:
        return "frozen", f"a head on frozen embeddings, since {classes:,} classes are more than {FEW_SHOT_CLASSES}"
    if typical < FINE_TUNING_LABELS:
        return "frozen", f"a head on frozen embeddings, {fewer} {FINE_TUNING_LABELS}"
    return "full", f"fine-tuning, since {typical:,} labels a class are enough for it"
