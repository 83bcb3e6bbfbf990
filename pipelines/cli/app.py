"""The programs `pigeonhole` and `kubectl-pigeonhole`: their commands, and their exit codes."""

import sys
from importlib import metadata
from typing import Annotated, NoReturn

import typer

from pipelines.cli import data, kubeflow, labelling, models, monitoring, rollout, scoring, serving, training, workers
from pipelines.cli.base.commands import Commands
from pipelines.cli.base.extras import missing_extra_named
from predictor.errors import InputError, PigeonholeError, StepFailed

app = Commands(name="pigeonhole")
app.command()(training.run)
app.command()(training.tune)
app.command("compile")(kubeflow.compile_)
app.command()(kubeflow.submit)
app.command()(kubeflow.schedule)
app.command()(monitoring.trigger)
app.command()(serving.serve)
app.command()(serving.predict)
app.command()(scoring.score)
app.add_typer(data.app, name="data")
app.add_typer(labelling.app, name="label")
app.add_typer(rollout.app, name="rollout")
app.add_typer(models.app, name="models")
app.add_typer(monitoring.app, name="monitor")
app.add_typer(workers.app)


def main() -> NoReturn:
    """Run the command line."""
    exit_after(app)


def plugin() -> NoReturn:
    """Run the commands of a rollout: kubectl hands what follows `kubectl pigeonhole` to an executable of this name."""
    exit_after(rollout.app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pigeonhole {metadata.version('pigeonhole')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Labelled text in; a monitored, self-correcting text classifier on KServe out."""


def exit_after(commands: typer.Typer) -> NoReturn:
    """Run commands and end the process.

    The exit code is 0 where it is done, 1 where the answer is no, 2 for wrong use and 3 where something else is away or
    broken. An error of our tree is a sentence on stderr; any other is a bug, and ends in its traceback.
    """
    try:
        with missing_extra_named():
            commands()
    except PigeonholeError as error:
        if isinstance(error, StepFailed):
            print(error.log, file=sys.stderr)
        print(f"pigeonhole: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 3)
    sys.exit(0)
