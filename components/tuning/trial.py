"""One trial of a search, as a process: fine-tunes, scores the validation split, prints the metrics.

`pigeonhole trial --data DATASET --learning-rate 0.0001 ...` is what a Katib trial runs in its pod and what the local
runner starts. Katib's collector reads `name=value` lines from stdout, one a metric and epoch.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from components.platform.termination import one_sentence
from components.training.job import TrainingJob, add_options
from components.training.recipe import Epoch


def parser() -> argparse.ArgumentParser:
    """Return the parser of the trial's command line."""
    made = argparse.ArgumentParser(
        prog="pigeonhole trial", allow_abbrev=False, description="Run one trial of a search and print its metrics."
    )
    add_options(made)
    return made


def main(arguments: Sequence[str]) -> None:
    """Run the trial; bad input ends the process with exit code 2, after one sentence."""
    job = TrainingJob.from_options(parser().parse_args(arguments))
    with one_sentence():
        run(job)


def run(job: TrainingJob) -> None:
    """Fine-tune and print each epoch's validation metrics; the weights are not kept.

    The test split plays no part: it is for the one model that comes out of the search.

    Raises:
        InputError: no dataset there, no such backbone, an unknown name or a value out of range.
    """
    with tempfile.TemporaryDirectory() as scratch:
        job.load().train_model(Path(scratch) / "checkpoint", print_metrics)


def print_metrics(epoch: Epoch) -> None:
    """Print what Katib's collector reads."""
    print(f"validation_loss={epoch.validation_loss:.6f}")
    # Last, since early stopping reacts to it: a trial that is stopped here has printed both.
    print(f"validation_accuracy={epoch.validation_accuracy:.6f}", flush=True)
