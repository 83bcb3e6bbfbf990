"""Toy texts with any number of labels, and a bundle of a tiny model that tells them apart."""

from pathlib import Path

import numpy as np
import pandas as pd

from components.data.dataset import Dataset
from components.data.prepare import prepare
from components.data.preparing.settings import Classes
from predictor.naming import AnswerNames

LABELS = ["Business", "Sports", "World"]
NAMES = AnswerNames(verb="tag", field="tags")
_WORDS = {
    "Sports": "goal match striker cup league coach penalty team season keeper",
    "Business": "shares profit bank market price oil merger bonds sales dollar",
    "World": "minister treaty rebels election parliament border army vote embassy truce",
}
_OTHERS = "0 1 2 3 4 5 6 7 8 9"
_SETS = [
    "Business",
    "Sports",
    "World",
    "Business|Sports",
    "Business|World",
    "Sports|World",
    "Business|Sports|World",
    "",
]


def toy_sets(rows_a_set: int, seed: int) -> pd.DataFrame:
    """Rows of each set of labels; a label's words say that a text has it."""
    random = np.random.default_rng(seed)
    rows = []
    for labels in _SETS * rows_a_set:
        pools = [_WORDS[label].split() for label in labels.split("|") if label] or [_OTHERS.split()]
        words = [word for pool in pools for word in random.choice(pool, int(random.integers(4, 9)))]
        rows.append({"text": " ".join(random.permutation(words)), "label": labels})
    frame = pd.DataFrame(rows).sample(frac=1.0, random_state=seed).reset_index(drop=True)
    frame["text"] += [f" {n}" for n in range(len(frame))]
    return frame


def toy_dataset() -> Dataset:
    """Enough rows to be fine-tuned, and to set a threshold for each label."""
    frames = {"train": toy_sets(60, 1), "test": toy_sets(12, 2)}
    return prepare(frames, seed=7, classes=Classes(multi_label=True))


def toy_checkpoint(backbone: Path, dataset: Dataset, folder: Path) -> Path:
    """A fine-tuned model. One seed in fourteen gets so small an encoder stuck where it mixes up two labels."""
    from components.training.fine_tuning.fine_tune import fine_tune
    from components.training.recipe import Recipe

    recipe = Recipe(epochs=8, learning_rate=5e-3, batch_tokens=256, max_length=64)
    for seed in range(7, 11):
        out = folder / str(seed)
        history = fine_tune(
            backbone, dataset.train, dataset.validation, dataset.labels, recipe, out, seed=seed, multi_label=True
        )
        if max(epoch.validation_accuracy for epoch in history) > 0.9:
            return out
    raise AssertionError("four seeds in a row did not learn to tell the labels apart")


def toy_draft(checkpoint: Path, dataset: Dataset, folder: Path) -> Path:
    """A bundle before its test."""
    from components.training.export.export import export

    export(checkpoint, dataset, dataset.train, 0.5, "tags", folder, NAMES)
    return folder
