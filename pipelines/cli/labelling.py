"""The commands of the labelling loop: `pigeonhole label ...`."""

import sys
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.base.commands import Commands
from pipelines.cli.base.options import FormatOption
from pipelines.cli.base.output import show

app = Commands(help="Have people label what helps the model most, and turn their answers into rows.")


class MethodOption(StrEnum):
    """How one label comes out of several answers."""

    MAJORITY = "majority"
    DAWID_SKENE = "dawid-skene"


class TiesOption(StrEnum):
    """What happens where two labels are as good."""

    DROP = "drop"
    ASK = "ask"
    FIRST = "first-annotator"


Labelled = Annotated[
    list[Path] | None,
    typer.Option(help="A dataset, folder or file whose texts are not asked again; may be given several times."),
]


@app.command()
def suggest(
    bundle: Annotated[Path, typer.Argument(help="The model: a bundle's folder.")],
    rows: Annotated[Path, typer.Argument(help="Texts without labels: .csv, .jsonl, .parquet, gzip too; text, id.")],
    budget: Annotated[int, typer.Option(min=1, help="How many rows people can label.")],
    out: Annotated[Path, typer.Option(help="Tasks for Label Studio: .json; the labeling config goes beside it.")],
    random_share: Annotated[
        float,
        typer.Option(
            "--random",
            min=0,
            max=1,
            help="Share of the budget drawn at random, without the model's answer: what accuracy is estimated on.",
        ),
    ] = 0.0,
    labelled: Labelled = None,
    seed: Annotated[int, typer.Option(envvar="PIGEONHOLE_SEED", help="Fixes what is drawn at random.")] = 42,
    format_: FormatOption = None,
) -> None:
    """Pick the rows that people should label next.

    Scores all rows with the bundle and picks those the model is unsure of, no two much alike. Exact copies are asked
    once. Writes tasks for Label Studio with the model's answers, and the labeling config.

    Examples:
      pigeonhole label suggest out/bundles/0123456789ab new.csv --budget 500 --random 0.2 --out tasks.json
      pigeonhole label suggest out/bundles/0123456789ab new.csv --budget 500 --labelled out/dataset --out tasks.json
    """  # fmt: skip
    from components.labelling.steps import suggest_to

    with redirect_stdout(sys.stderr):
        report = suggest_to(out, bundle, rows, budget, random_share, labelled or [], seed)
    show(report, format_)


@app.command("import")
def import_(
    export: Annotated[
        Path, typer.Argument(help="An export of Label Studio (JSON, JSON-MIN, CSV), or a table of answers.")
    ],
    out: Annotated[Path, typer.Option(help="The answers that count: .csv, .jsonl, .parquet.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="A bundle, dataset or labeling config, whose labels alone count.  [default: all]"),
    ] = None,
    tasks: Annotated[
        Path | None, typer.Option(help="The tasks that suggest wrote, to name those without an answer.")
    ] = None,
    annotator: Annotated[
        list[str] | None,
        typer.Option(help="A column with one annotator's labels, where a row is a text; give it for each annotator."),
    ] = None,
    control: Annotated[str, typer.Option(help="The name of the choices in the labeling config.")] = "label",
    format_: FormatOption = None,
) -> None:
    """Read what people answered.

    Takes an export of Label Studio, or a table: either a row for each answer, with the columns id, text, annotator
    and label, or a row for each text and --annotator for each column. Answers that do not count are counted by reason.

    Examples:
      pigeonhole label import export.json --labels tasks.xml --tasks tasks.json --out annotations.csv
      pigeonhole label import answers.csv --annotator anna --annotator ben --out annotations.csv
    """
    from components.labelling.steps import import_to

    with redirect_stdout(sys.stderr):
        report = import_to(out, export, labels, tasks, annotator or [], control)
    show(report, format_)


@app.command()
def merge(
    annotations: Annotated[Path, typer.Argument(help="What label import wrote.")],
    out: Annotated[Path, typer.Option(help="Rows with labels: .csv, .jsonl, .parquet; a report goes beside it.")],
    method: Annotated[
        MethodOption, typer.Option(help="Count votes, or weigh annotators by what their answers tell.")
    ] = MethodOption.MAJORITY,
    ties: Annotated[
        TiesOption,
        typer.Option(help="Where two labels are as good: leave the row out, ask again, or take the one given first."),
    ] = TiesOption.DROP,
    format_: FormatOption = None,
) -> None:
    """Give each row one label, and say how far people agree.

    Reports Cohen's and Fleiss' kappa and Krippendorff's alpha, annotators to look at, and rows that people disagree on.
    Where accuracy can be estimated on rows drawn at random, it is.

    Examples:
      pigeonhole label merge annotations.csv --out labelled.csv
      pigeonhole label merge annotations.csv --method dawid-skene --ties ask --out labelled.csv
    """
    from components.labelling.steps import merge_to

    with redirect_stdout(sys.stderr):
        report = merge_to(out, annotations, method, ties)
    show(report, format_)
