"""Fine-tuning as a program: one process of several under torchrun, in a TrainJob's containers, or alone.

    torchrun --nproc-per-node 2 --no-python pigeonhole train-worker --data out/data --out out/checkpoint

Every machine must be able to read --data and --backbone; a backbone is not copied, so its folder is part of the image,
or its name one that each machine gets from the hub. Only the first process reads and writes --checkpoints and --out.
--data, --checkpoints and --out are folders, or fsspec URIs such as s3://bucket/folder where machines share no disk:
each process then downloads the data, and the first one uploads the complete model, `training.json` last. Where
training failed, a --out in object storage holds one sentence in `failure.txt` instead.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from components.platform.storage import is_remote, upload, write_text
from components.platform.termination import end_with_parent, one_sentence
from components.training.fine_tuning.process_group import ProcessGroup
from components.training.job import TrainingJob, add_options
from components.training.recipe import HISTORY_FILE
from predictor.errors import InputError

FAILURE_FILE = "failure.txt"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the worker's command line."""
    made = argparse.ArgumentParser(
        prog="pigeonhole train-worker",
        allow_abbrev=False,
        description="Fine-tune a classifier in this process and all others that torchrun started.",
    )
    add_options(made)
    made.add_argument("--out", required=True, help="where the model goes: a folder or an fsspec URI")
    return made


def main(arguments: Sequence[str]) -> None:
    """Train as the arguments say; bad input ends every process with exit code 2, after one sentence from the first."""
    options = parser().parse_args(arguments)
    job, out = TrainingJob.from_options(options), str(options.out)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()
    with ProcessGroup.join() as group, one_sentence(), _failure_written(group, out), group.shared_errors():
        _train(group, job, out)


def _train(group: ProcessGroup, job: TrainingJob, out: str) -> None:
    with group.shared_errors():
        loaded = job.load()
    if not is_remote(out):
        loaded.train_model(Path(out))
        return
    with tempfile.TemporaryDirectory() as folder:
        loaded.train_model(Path(folder))
        group.run_on_main(partial(upload, Path(folder), out, last=HISTORY_FILE))


@contextmanager
def _failure_written(group: ProcessGroup, out: str) -> Iterator[None]:
    """Write why there is no model to where it would be: the step that waits sees neither the log nor the exit code."""
    try:
        yield
    except InputError as error:
        if group.is_main and is_remote(out):
            with suppress(InputError):  # where even that fails, the reason is still printed
                write_text(f"{out.rstrip('/')}/{FAILURE_FILE}", str(error))
        raise
