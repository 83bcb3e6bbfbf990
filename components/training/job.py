"""The training job: a pipeline step, a trial of a search and each process of a TrainJob all run one."""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.data.dataset import Dataset, Split
from components.platform.progress import say
from components.platform.storage import download, is_remote
from components.training.backbone import EMBEDDED, resolve_backbone
from components.training.recipe import (
    PROFILES,
    TUNABLE,
    Epoch,
    Method,
    Recipe,
    choose_method,
    recipe_for,
    training_rows,
)


@dataclass(frozen=True)
class TrainingJob:
    """What to train, on what, and where to keep the state of a training that may be killed."""

    data: str
    """The prepared dataset: a folder, or an fsspec URI such as `s3://bucket/dataset`."""
    backbone: str = EMBEDDED
    """`minilm`, a model folder, or a name on the Hugging Face hub."""
    profile: str = PROFILES[0]
    """`fast` or `full`: how many rows, and how often each is seen."""
    max_length: int = 128
    """Tokens a text is cut at."""
    seed: int = 42
    """Fixes the sampled rows, the initial head, dropout and the order of the rows."""
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    """Values by name, numbers as text; the recipe has its own for names that are missing."""
    checkpoints: str = ""
    """Folder or fsspec URI that outlives the process; empty for no checkpoints."""

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> "TrainingJob":
        """Return the job that a command line describes, parsed by a parser with `add_options`."""
        values = vars(options)
        hyperparameters = {name: values[name] for name in TUNABLE if values[name] is not None}
        return cls(
            options.data, options.backbone, options.profile, options.max_length, options.seed, hyperparameters,
            options.checkpoints,
        )  # fmt: skip

    def to_options(self) -> dict[str, str]:
        """Return the job as command-line options, from flag to value."""
        values = asdict(self)
        values |= values.pop("hyperparameters")
        return {_flag(name): str(value) for name, value in values.items()}

    def load(self, method: Method | None = "full") -> "LoadedJob":
        """Read the data and find the backbone, so that training can start.

        Args:
            method: how to train; None to choose by the number of labels a class, and to print why.

        Raises:
            InputError: no dataset there, no such backbone, an unknown name or a value out of range.
        """
        rows = training_rows(self.profile)
        Recipe(epochs=1).with_hyperparameters(self.hyperparameters)  # a bad value is an error before the slow download
        dataset = self._read_dataset()
        train = dataset.train.sample(rows, self.seed)
        if method is None:
            method, reason = choose_method(train.labels, self.hyperparameters, dataset.multi_label)
            say(reason)
        recipe = recipe_for(self.profile, len(train), self.max_length, method)
        recipe = recipe.with_hyperparameters(self.hyperparameters)
        return LoadedJob(self, dataset, train, recipe, resolve_backbone(self.backbone))

    def _read_dataset(self) -> Dataset:
        if not is_remote(self.data):
            return Dataset.load(Path(self.data))
        with tempfile.TemporaryDirectory() as folder:
            return Dataset.load(download(self.data, Path(folder) / "dataset"))


@dataclass(frozen=True)
class LoadedJob:
    """A job with its data in memory and its backbone on disk."""

    job: TrainingJob
    dataset: Dataset
    train: Split
    """The training rows that the profile takes."""
    recipe: Recipe
    backbone: Path

    @property
    def parameters(self) -> dict[str, Any]:
        """What tells this training from others, for the experiment tracker."""
        job = self.job
        named = {"profile": job.profile, "backbone": job.backbone, "seed": job.seed, "train_rows": len(self.train)}
        return {**asdict(self.recipe), **named}

    def train_model(self, out: Path, on_epoch: Callable[[Epoch], None] = lambda epoch: None) -> list[Epoch]:
        """Train, write the model to `out`, and return the training history.

        Args:
            out: folder for weights, tokenizer and `training.json`.
            on_epoch: called with each finished epoch.

        Raises:
            InputError: the backbone cannot be loaded, the loss diverges, or a file cannot be written.
        """
        data, seed = self.dataset, self.job.seed
        if self.recipe.method == "full":
            from components.training.fine_tuning.fine_tune import fine_tune  # imports torch, which takes seconds

            return fine_tune(
                self.backbone, self.train, data.validation, data.labels, self.recipe, out, seed, on_epoch,
                self.job.checkpoints, data.multi_label,
            )  # fmt: skip
        from components.training.few_shot.head import fit_head

        return fit_head(
            self.backbone, self.train, data.validation, data.labels, self.recipe, out, seed, on_epoch, data.multi_label
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options that describe a training job."""
    job = TrainingJob
    parser.add_argument("--data", required=True, help="the prepared dataset: a folder or an address such as s3://...")
    parser.add_argument("--backbone", default=job.backbone, help=f"{EMBEDDED}, a model folder, or a hub name")
    parser.add_argument("--profile", default=job.profile, help=f"how much to train: {' or '.join(PROFILES)}")
    parser.add_argument("--max-length", type=int, default=job.max_length, help="tokens a text is cut at")
    parser.add_argument("--seed", type=int, default=job.seed, help="fixes everything drawn at random")
    parser.add_argument("--checkpoints", default=job.checkpoints, help="folder or URI that outlives the process")
    for name in TUNABLE:
        # Text: the recipe parses the numbers, and one place says what is wrong with one.
        parser.add_argument(_flag(name), help="default: the recipe's")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
