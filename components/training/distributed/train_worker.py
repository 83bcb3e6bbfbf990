"""Fine-tuning as a program: one process of several under torchrun, in a TrainJob's containers, or alone.

    torchrun --nproc-per-node 2 -m components.training.distributed.train_worker --data out/data --out out/checkpoint

Every machine must be able to read --data and --backbone; a backbone is not copied, so its folder is part of the image,
or its name one that each machine gets from the hub. Only the first process reads and writes --checkpoints and --out.
--data, --checkpoints and --out are folders, or fsspec URIs such as s3://bucket/folder where machines share no disk:
each process then downloads the data, and the first one uploads the model when it is whole, `training.json` last. Where
training failed, a --out in object storage holds one sentence in `failure.txt` instead.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from components.data.dataset import Dataset
from components.platform.storage import download, is_remote, upload, write_text
from components.platform.termination import end_with_parent, one_sentence
from components.training.backbone import EMBEDDED, resolve_backbone
from components.training.fine_tuning.fine_tune import fine_tune
from components.training.fine_tuning.process_group import World
from components.training.recipe import HISTORY_FILE, PROFILES, recipe_for, training_rows
from predictor.errors import InputError

FAILURE_FILE = "failure.txt"


def main(arguments: Sequence[str]) -> None:
    """Train as the arguments say; bad input ends every process with exit code 2, after one sentence from the first."""
    asked = _parser().parse_args(arguments)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()
    with (
        World.join() as world,
        one_sentence(),
        _failure_left(world, asked.out),
        tempfile.TemporaryDirectory() as scratch,
        world.together(),
    ):
        _train(world, asked, Path(scratch))


def _train(world: World, asked: argparse.Namespace, scratch: Path) -> None:
    with world.together():
        data = Dataset.load(download(asked.data, scratch / "data") if is_remote(asked.data) else Path(asked.data))
        train = data.train.sample(training_rows(asked.profile), asked.seed)
        recipe = recipe_for(asked.profile, len(train), asked.max_length).assigned(asked.hyperparameters)
        backbone = resolve_backbone(asked.backbone)
    out = scratch / "out" if is_remote(asked.out) else Path(asked.out)
    fine_tune(backbone, train, data.validation, data.labels, recipe, out, asked.seed, checkpoints=asked.checkpoints)
    if is_remote(asked.out):
        world.once(partial(upload, out, asked.out, last=HISTORY_FILE))


@contextmanager
def _failure_left(world: World, out: str) -> Iterator[None]:
    """Leave the sentence beside the model that will not come: another machine sees neither this one's log nor exit."""
    try:
        yield
    except InputError as error:
        if world.first and is_remote(out):
            with suppress(InputError):  # where even that fails, the reason is still printed
                write_text(f"{out.rstrip('/')}/{FAILURE_FILE}", str(error))
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m components.training.distributed.train_worker",
        description="Fine-tune a classifier in this process and all others that torchrun started.",
    )
    parser.add_argument("--data", required=True, help="the prepared data: a dataset folder or its fsspec URI")
    parser.add_argument("--out", required=True, help="where the model goes: a folder or an fsspec URI")
    parser.add_argument("--backbone", default=EMBEDDED, help=f"{EMBEDDED}, a model folder, or a hub name")
    parser.add_argument("--profile", default="fast", choices=PROFILES, help="how much to train")
    parser.add_argument("--max-length", type=int, default=128, help="tokens a text is cut at")
    parser.add_argument("--seed", type=int, default=42, help="fixes everything drawn at random")
    parser.add_argument("--checkpoints", default="", help="folder or fsspec URI that outlives the processes")
    parser.add_argument(
        "--hyperparameters", type=_assignments, default={}, help='JSON object, such as \'{"learning_rate": "3e-5"}\''
    )
    return parser


def _assignments(text: str) -> dict[str, str]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return {str(name): str(value) for name, value in values.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
