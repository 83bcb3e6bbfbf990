"""The commands that train: run and tune."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.base.options import (
    CheckOption,
    ColumnOption,
    FormatOption,
    QueryOption,
    SplitOption,
    TaskOption,
    ThresholdOption,
    assigned,
)
from pipelines.cli.base.output import show
from predictor.errors import InputError

SAMPLE = "sample"


def run(
    out: Annotated[Path, typer.Option(envvar="PIGEONHOLE_OUT", help="Folder for the results.")] = Path("out"),
    data: Annotated[
        str,
        typer.Option(
            envvar="PIGEONHOLE_DATA",
            help="sample, sample:NAME; a folder with train and test files, or a file (.csv, .tsv, .jsonl, .parquet,"
            " gzip too); s3://, https:// and others; sql:URL; hf:NAME; named:NAME; crawl:FILE.  [default: the task's]",
        ),
    ] = "",
    task: TaskOption = "",
    column: ColumnOption = None,
    query: QueryOption = "",
    profile: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_PROFILE", help="fast (minutes) or full (all rows).")
    ] = "fast",
    backbone: Annotated[
        str,
        typer.Option(
            envvar="PIGEONHOLE_BACKBONE",
            help="minilm (embedded, no network), a model folder, or a hub name such as distilbert-base-uncased.",
        ),
    ] = "minilm",
    name: Annotated[
        str,
        typer.Option(
            envvar="PIGEONHOLE_NAME", help="Name of the registered model.  [default: the task's, or from --data]"
        ),
    ] = "",
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            envvar="PIGEONHOLE_MIN_ACCURACY",
            min=0,
            max=1,
            help="Least test accuracy that passes the gate.  [default: the task's, or 0.9]",
        ),
    ] = None,
    multi_label: Annotated[
        bool,
        typer.Option(
            "--multi-label",
            envvar="PIGEONHOLE_MULTI_LABEL",
            help="A text may have any number of labels, joined by | in --data, or as a list.  [default: the task's]",
        ),
    ] = False,
    max_length: Annotated[
        int, typer.Option(envvar="PIGEONHOLE_MAX_LENGTH", min=8, max=512, help="Tokens a text is cut at.")
    ] = 128,
    seed: Annotated[int, typer.Option(envvar="PIGEONHOLE_SEED", help="Fixes everything drawn at random.")] = 42,
    hyperparameters: Annotated[
        Path | None,
        typer.Option(
            envvar="PIGEONHOLE_HYPERPARAMETERS", help="JSON as tune prints it, or an object of values by name."
        ),
    ] = None,
    check: CheckOption = None,
    split: SplitOption = None,
    threshold: ThresholdOption = None,
    format_: FormatOption = None,
) -> None:
    """Train a classifier on this machine.

    Collects, prepares, trains the linear baseline, fine-tunes, exports, evaluates, gates and registers. A version that
    passes the gate becomes @champion in the folder's MLflow. Prints accuracy, bundle (its folder) and more. Exit code 1
    means that the gate stayed closed.

    Examples:
      pigeonhole run --out out/news
      pigeonhole run --task sentiment --data data/reviews --profile full --min-accuracy 0.7 --out out/sentiment
      pigeonhole run --data tickets.csv --column text=body --column label=topic --out out/tickets
      pigeonhole run --data sql:postgresql+psycopg://db/desk --query "SELECT body AS text, topic AS label FROM tickets"
      pigeonhole run --data tickets.jsonl --multi-label --out out/tags
      pigeonhole run --data named:ag_news --backbone distilbert-base-uncased --profile full --out out/ag
      pigeonhole run --hyperparameters out/tune/search.json --out out/tuned
      pigeonhole run --threshold min_class_recall=0.6 --threshold champion_margin=0.005 --out out/news
      pigeonhole run --data data/mail --split by=time --split column=sent --check max_rejected=0.05 --out out/mail
    """
    from components.data.preparing.settings import Checks, SplitRule
    from components.evaluation.thresholds import Thresholds
    from components.training.backbone import resolve_backbone
    from components.training.recipe import read_assignments, training_rows

    training_rows(profile)
    resolve_backbone(backbone)
    checks, rule = assigned(check, "--check"), assigned(split, "--split")
    Checks.named(checks)
    SplitRule.named(rule)
    about = _parameters(task, data)
    about |= {"multi_label": True} if multi_label else {}
    usual_name, default = about.pop("name"), about.pop("min_accuracy", Thresholds.min_accuracy)
    data, name = about.pop("data"), name or usual_name
    min_accuracy = default if min_accuracy is None else min_accuracy
    thresholds = {**about.pop("thresholds"), **assigned(threshold, "--threshold")}
    Thresholds.named({"min_accuracy": min_accuracy, **thresholds})
    values = read_assignments(hyperparameters) if hyperparameters else {}
    columns = assigned(column, "--column")
    from pipelines.running.local import run_training  # kfp takes seconds to import: after what may be refused at once

    data, backbone = _absolute(data), _absolute(backbone)
    result = run_training(
        out, data=data, columns=columns, query=query, name=name, profile=profile, backbone=backbone,
        min_accuracy=min_accuracy, max_length=max_length, seed=seed, hyperparameters=values,
        thresholds={name: float(value) for name, value in thresholds.items()},
        checks={name: float(value) for name, value in checks.items()}, split=rule, **about,
    )  # fmt: skip
    show(result, format_)
    if not result["passed"]:
        raise typer.Exit(1)


def tune(
    file: Annotated[Path, typer.Argument(help="The Katib Experiment, a YAML file.")],
    local: Annotated[bool, typer.Option("--local", help="Search on this machine, without Katib.")] = False,
    data: Annotated[
        str,
        typer.Option(
            envvar="PIGEONHOLE_DATA",
            help="With --local as for run. On a cluster the address or mounted folder of a prepared dataset."
            "  [default: sample; the file's]",
        ),
    ] = "",
    column: ColumnOption = None,
    query: QueryOption = "",
    backbone: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_BACKBONE", help="As for run.  [default: the file's]")
    ] = "",
    profile: Annotated[str, typer.Option(envvar="PIGEONHOLE_PROFILE", help="As for run.  [default: the file's]")] = "",
    seed: Annotated[int, typer.Option(envvar="PIGEONHOLE_SEED", help="Fixes split, rows and dropout.")] = 42,
    out: Annotated[Path, typer.Option(envvar="PIGEONHOLE_OUT", help="Folder for a local search.")] = Path("out/tune"),
    namespace: Annotated[
        str,
        typer.Option(
            envvar="PIGEONHOLE_NAMESPACE", help="Where trials run.  [default: the file's, or the kubeconfig's]"
        ),
    ] = "",
    timeout: Annotated[
        float, typer.Option(envvar="PIGEONHOLE_TIMEOUT", min=0, help="Seconds to wait for a cluster.")
    ] = 86400,
    format_: FormatOption = None,
) -> None:
    """Search hyper-parameters.

    FILE is a Katib Experiment. Katib runs it on the cluster of the current kubeconfig; with --local the same file
    runs here, and a search that was cut short goes on where it was. Prints best_trial, objective, hyperparameters and
    more. Exit code 1 means that the search failed.

    Examples:
      pigeonhole tune manifests/katib/experiment.yaml --local --out out/tune
      pigeonhole tune manifests/katib/experiment.yaml --local --data data/reviews --profile full --out out/tune
      pigeonhole tune manifests/katib/experiment.yaml --namespace team-a --data s3://data/news/dataset
    """
    from components.data.sources.table import Request
    from pipelines.running.tuning import tune_here, tune_on_cluster

    values = {"--backbone": _absolute(backbone) if local else backbone, "--profile": profile, "--seed": str(seed)}
    if local:
        rows = Request(_absolute(data) or SAMPLE, assigned(column, "--column"), query)
        result = tune_here(file, out, rows, seed, values)
    else:
        result = tune_on_cluster(file, namespace, timeout, data, values)
    show(result, format_)
    if not result["succeeded"]:
        print(f"pigeonhole: {result['reason']}", file=sys.stderr)
        raise typer.Exit(1)


def _absolute(place: str) -> str:
    return str(Path(place).resolve()) if place and Path(place).exists() else place


def _parameters(task: str, data: str) -> dict[str, Any]:
    """Return the pipeline's parameters that the task decides; without a task, the sample has that of the default one.

    Raises:
        InputError: there is no such task, or it names no data and none is given.
    """
    from components.tasks.task import default_task, load_task

    if not task and data not in ("", SAMPLE):
        return {"data": data, "name": _name_of(data), "thresholds": {}}
    about = (load_task(task) if task else default_task()).parameters()
    if task and data in ("", SAMPLE):
        data = about.get("data", "")
    if task and not data:
        raise InputError(f"the task {task} has no data of its own: give some with --data")
    return {**about, "data": data or SAMPLE}


def _name_of(data: str) -> str:
    from components.data.sources.address import safe

    stem = re.sub(r"\.(csv|tsv|jsonl|parquet)(\.gz)?$", "", Path(safe(data)).name.lower().rpartition(":")[2])
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-") or "texts"
