"""The command that scores large files: `pigeonhole score`."""

import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.base.options import FormatOption, assigned
from pipelines.cli.base.output import show
from predictor.errors import InputError

_COLUMNS = {"text", "label"}


def score(
    rows: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="Texts: .csv, .tsv, .jsonl (gzip too), .parquet, a folder of them, or a URI."
        ),
    ],
    bundle: Annotated[str, typer.Option(envvar="PIGEONHOLE_BUNDLE", help="The bundle's folder or URI.")],
    out: Annotated[str, typer.Option(help="Folder or URI of the batch; a start into it goes on where the last ended.")],
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="What the input calls our column text or label; repeatable."),
    ] = None,
    canaries: Annotated[
        str, typer.Option(help="A file of labelled rows (text, label) to mix in; they do not come out.")
    ] = "",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Add the probabilities of all classes.")
    ] = False,
    part_rows: Annotated[
        int, typer.Option(min=1, help="Rows of a part, the most that is done again after a kill.")
    ] = 20_000,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a paused batch that somebody has looked at.")
    ] = False,
    push_url: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_PUSH_URL", help="A Pushgateway that gets the batch's gauges.")
    ] = "",
    metrics_file: Annotated[
        Path | None,
        typer.Option(
            envvar="PIGEONHOLE_METRICS_FILE", help="A .prom file of the textfile collector that gets them, too."
        ),
    ] = None,
    format_: FormatOption = None,
) -> None:
    """Score a large file with a bundle, a part at a time.

    Each row of the input comes out once, in order, with predicted_label, confidence and, where there is none, the
    reason. Finished parts survive a kill: the same command goes on after them, and gives the same files. Rows with a
    label are canaries: where they show that the batch is more than 5 points under the bundle's accuracy, it pauses
    with exit code 1.

    Examples:
      pigeonhole score big.parquet --bundle out/bundles/0123456789ab --out scored
      pigeonhole score big.csv --bundle out/bundles/0123456789ab --out scored --canaries labelled.csv --column text=body
    """  # fmt: skip
    from components.monitoring.publish import Places
    from components.platform.storage import is_remote
    from components.scoring.gauges import publish_batch
    from components.scoring.plan import Settings
    from components.scoring.steps import score_here
    from pipelines.running.results import locked_folder

    columns = assigned(column, "--column")
    if unknown := set(columns) - _COLUMNS:
        raise InputError(f"--column {min(unknown)} is not one of ours: name text or label")
    Places(push_url, metrics_file).check()
    settings = Settings(columns.get("text", "text"), columns.get("label", "label"), canaries, probabilities, part_rows)
    with redirect_stdout(sys.stderr), nullcontext() if is_remote(out) else locked_folder(Path(out)):
        result = score_here(rows, bundle, out, settings, resume)
        publish_batch(out, push_url, metrics_file)
    show(result, format_)
    if result["paused"]:
        print(f"pigeonhole: {result['reason']}", file=sys.stderr)
        raise typer.Exit(1)
