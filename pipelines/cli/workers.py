"""Commands that manifests run, not people: hidden from the help, so that a manifest names no module of the code."""

import typer

app = typer.Typer(rich_markup_mode=None)

# The workers parse their own options, since they are also what writes them into manifests.
_PASS_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command("trial", hidden=True, add_help_option=False, context_settings=_PASS_OPTIONS)
def trial(context: typer.Context) -> None:
    """Run one trial of a search: the command of a Katib Experiment."""
    from components.tuning.trial import main

    main(context.args)


@app.command("train-worker", hidden=True, add_help_option=False, context_settings=_PASS_OPTIONS)
def train_worker(context: typer.Context) -> None:
    """Run one training process of a TrainJob, under torchrun."""
    from components.training.distributed.train_worker import main

    main(context.args)
