"""The commands that train: run and tune."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import FormatOption
from pipelines.cli.output import show


def run(
    out: Annotated[Path, typer.Option(envvar="PIGEONHOLE_OUT", help="Folder for the results.")] = Path("out"),
    data: Annotated[
        str,
        typer.Option(
            envvar="PIGEONHOLE_DATA",
            help="sample; a folder with train and test files (.csv, .jsonl, .parquet, gzip too; text, label); hf:NAME.",
        ),
    ] = "sample",
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
            envvar="PIGEONHOLE_NAME", help="Name of the task and the registered model.  [default: from --data]"
        ),
    ] = "",
    min_accuracy: Annotated[
        float,
        typer.Option(envvar="PIGEONHOLE_MIN_ACCURACY", min=0, max=1, help="Least test accuracy that passes the gate."),
    ] = 0.9,
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
    format_: FormatOption = None,
) -> None:
    """Train a classifier on this machine.

    Collects, prepares, trains the linear baseline, fine-tunes, exports, evaluates, gates and registers. Prints
    accuracy, bundle (its folder) and more. Exit code 1 means that the gate stayed closed.

    Examples:
      pigeonhole run --out out/news
      pigeonhole run --data data/reviews --name sentiment --profile full --min-accuracy 0.7 --out out/sentiment
      pigeonhole run --data hf:ag_news --backbone distilbert-base-uncased --profile full --out out/ag
      pigeonhole run --hyperparameters out/tune/search.json --out out/tuned
    """
    from components.training.backbone import resolve_backbone
    from components.training.recipe import read_assignments, training_rows

    training_rows(profile)
    resolve_backbone(backbone)
    values = read_assignments(hyperparameters) if hyperparameters else {}
    from pipelines.running.local import run_training  # kfp takes seconds to import: after what may be refused at once

    data, backbone = _absolute(data), _absolute(backbone)
    result = run_training(
        out, data=data, name=name or _name_of(data), profile=profile, backbone=backbone,
        min_accuracy=min_accuracy, max_length=max_length, seed=seed, hyperparameters=values,
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
    from pipelines.running.tuning import tune_here, tune_on_cluster

    values = {"--backbone": _absolute(backbone) if local else backbone, "--profile": profile, "--seed": str(seed)}
    if local:
        result = tune_here(file, out, _absolute(data), seed, values)
    else:
        result = tune_on_cluster(file, namespace, timeout, data, values)
    show(result, format_)
    if not result["succeeded"]:
        print(f"pigeonhole: {result['reason']}", file=sys.stderr)
        raise typer.Exit(1)


def _absolute(place: str) -> str:
    return str(Path(place).resolve()) if place and Path(place).is_dir() else place


def _name_of(data: str) -> str:
    if data == "sample":
        return "news-topics"
    return re.sub(r"[^a-z0-9]+", "-", Path(data.removeprefix("hf:")).name.lower()).strip("-") or "texts"
