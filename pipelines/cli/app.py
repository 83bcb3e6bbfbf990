"""The command line `pigeonhole`: JSON on stdout, progress on stderr, exit code 0 done, 1 no, 2 wrong use, 3 broken."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pipelines.cli import rollout
from pipelines.cli.extras import missing_extra_named
from pipelines.cli.kubeflow import SCHEDULE, SUBMIT, schedule, submit
from predictor.errors import InputError

app = typer.Typer(
    name="pigeonhole",
    help="Labelled text in; a monitored, self-correcting text classifier on KServe out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
)

app.add_typer(rollout.app, name="rollout")

_RUN = """Train a classifier on this machine.

Collects, prepares, trains the linear baseline, fine-tunes, exports, evaluates, gates and registers. Prints one JSON
object with accuracy, bundle (its folder) and more. Exit code 1 means that the gate stayed closed.

\b
Examples:
  pigeonhole run --out out/news
  pigeonhole run --data data/reviews --name sentiment --profile full --min-accuracy 0.7 --out out/sentiment
  pigeonhole run --data hf:ag_news --backbone distilbert-base-uncased --profile full --out out/ag
  pigeonhole run --hyperparameters out/tune/search.json --out out/tuned
"""


@app.command(help=_RUN)
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
) -> None:
    """Train."""
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
    _print(result)
    if not result["passed"]:
        raise typer.Exit(1)


_TUNE = """Search hyper-parameters.

FILE is a Katib Experiment. Katib runs it on the cluster of the current kubeconfig; with --local the same file runs
here, and a search that was cut short goes on where it was. Prints one JSON object with best_trial, objective,
hyperparameters and more. Exit code 1 means that the search failed.

\b
Examples:
  pigeonhole tune manifests/katib/experiment.yaml --local --out out/tune
  pigeonhole tune manifests/katib/experiment.yaml --local --data data/reviews --profile full --out out/tune
  pigeonhole tune manifests/katib/experiment.yaml --namespace team-a --data s3://data/news/dataset
"""


@app.command(help=_TUNE)
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
) -> None:
    """Tune."""
    from pipelines.running.tuning import tune_here, tune_on_cluster

    values = {"--backbone": _absolute(backbone) if local else backbone, "--profile": profile, "--seed": str(seed)}
    if local:
        result = tune_here(file, out, _absolute(data), seed, values)
    else:
        result = tune_on_cluster(file, namespace, timeout, data, values)
    _print(result)
    if not result["succeeded"]:
        print(f"pigeonhole: {result['reason']}", file=sys.stderr)
        raise typer.Exit(1)


_COMPILE = """Compile the pipelines for Kubeflow.

Writes IR YAML, one file a pipeline: what submit and schedule take. With --kubernetes it also writes each as the objects
Pipeline and PipelineVersion, for kubectl apply where Kubeflow keeps its pipelines in Kubernetes.

\b
Examples:
  pigeonhole compile --out build/ir --image registry.example.com/pigeonhole/steps-python@sha256:...
  pigeonhole compile --out build/ir --kubernetes && kubectl apply -n team-a -f build/ir/kubernetes
"""


@app.command("compile", help=_COMPILE)
def compile_(
    out: Annotated[Path, typer.Option(envvar="PIGEONHOLE_OUT", help="Folder for the YAML files.")],
    image: Annotated[
        str,
        typer.Option(envvar="PIGEONHOLE_STEPS_IMAGE", help="Container image of the steps.  [default: this release's]"),
    ] = "",
    kubernetes: Annotated[bool, typer.Option("--kubernetes", help="Write Kubernetes objects, too.")] = False,
) -> None:
    """Compile."""
    from components import STEPS_IMAGE
    from pipelines.running.compiling import compile_all, write_manifests

    try:
        files = compile_all(out, image or STEPS_IMAGE)
        manifests = write_manifests(files) if kubernetes else []
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error.strerror}): choose another folder") from error
    _print(
        {"files": [str(file) for file in files]} | ({"kubernetes": [str(m) for m in manifests]} if manifests else {})
    )


app.command(help=SUBMIT)(submit)
app.command(help=SCHEDULE)(schedule)


_SERVE = """Serve a model bundle.

Over the KServe protocols V1, V2 REST and V2 gRPC, with /metrics, and /docs for all that HTTP takes.

\b
Examples:
  pigeonhole serve out/bundles/0123456789ab
  curl localhost:8080/v1/models/classifier:predict -d '{"instances": ["Stocks fell on Monday."]}'
"""


@app.command(help=_SERVE)
def serve(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    http_port: Annotated[
        int, typer.Option(envvar="PIGEONHOLE_HTTP_PORT", min=1, max=65535, help="V1, V2, /metrics.")
    ] = 8080,
    grpc_port: Annotated[int, typer.Option(envvar="PIGEONHOLE_GRPC_PORT", min=1, max=65535, help="V2 gRPC.")] = 8081,
    model_name: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_MODEL_NAME", help="Name in the endpoints' paths.")
    ] = "classifier",
    revision: Annotated[
        str,
        typer.Option(
            envvar=["PIGEONHOLE_REVISION", "K_REVISION"],
            help="Label on the metrics that tells a canary from the stable version.  [default: the bundle's digest]",
        ),
    ] = "",
    precision: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_PRECISION", help="int8, fp32 or torch.  [default: what the bundle chose]")
    ] = "",
    queue_tokens: Annotated[
        int,
        typer.Option(
            envvar="PIGEONHOLE_QUEUE_TOKENS",
            min=1024,
            help="Tokens that may wait, some seconds' work; beyond it requests get a 429 and Retry-After.",
        ),
    ] = 131_072,
    timeout: Annotated[
        float,
        typer.Option(
            envvar="PIGEONHOLE_TIMEOUT", min=0.001, help="Seconds after which a request is given up with a 504."
        ),
    ] = 30.0,
    cache_entries: Annotated[
        int,
        typer.Option(
            envvar="PIGEONHOLE_CACHE_ENTRIES", min=0, help="Answers to keep for texts asked again; 0 for none."
        ),
    ] = 10_000,
    body_bytes: Annotated[
        int,
        typer.Option(
            envvar="PIGEONHOLE_BODY_BYTES", min=1024, help="The longest body or gRPC message; beyond it a 413."
        ),
    ] = 8_388_608,
) -> None:
    """Serve."""
    from predictor.serving.scheduler import Limits
    from predictor.serving.server import serve as start

    limits = Limits(queue_tokens, timeout, cache_entries, body_bytes)
    start(bundle, model_name, http_port, grpc_port, limits, revision, precision)


_PREDICT = """Label texts with a model that is served.

Asks a running predictor over V1, V2 REST or V2 gRPC, waits where it says that it is busy, and prints JSON. With --input
and --output the rows of a file get the columns predicted_label and confidence. Exit code 3 means that the server is
away or broken.

\b
Examples:
  pigeonhole predict "Shares fell 7 percent after the profit warning."
  pigeonhole predict --url http://localhost:8081 --protocol grpc "The keeper saved two penalties."
  pigeonhole predict --input reviews.csv --output labelled.parquet --model-name sentiment
"""


@app.command(help=_PREDICT)
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="The texts.", metavar="[TEXT]...")] = None,
    url: Annotated[
        str,
        typer.Option(
            envvar="PIGEONHOLE_URL", help="The server.  [default: http://localhost:8080, :8081 for gRPC, as for serve]"
        ),
    ] = "",
    model_name: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_MODEL_NAME", help="Name in the endpoints' paths.")
    ] = "classifier",
    protocol: Annotated[str, typer.Option(envvar="PIGEONHOLE_PROTOCOL", help="v1, v2 or grpc.")] = "v2",
    input_: Annotated[
        Path | None, typer.Option("--input", help="A file of texts: .csv, .jsonl, .parquet, .txt, gzip too.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Where its rows go with their labels: .csv, .parquet, .jsonl.")
    ] = None,
) -> None:
    """Predict."""
    if bool(texts) == bool(input_) or bool(input_) != bool(output):
        raise InputError("there is not one source of texts: give texts, or --input FILE with --output FILE")
    from pipelines.running.label_file import predict_file, predict_texts
    from predictor.client.ask import Server, ServerFailed

    server = Server.at(protocol, url, model_name)
    try:
        _print(predict_file(server, input_, output) if input_ and output else predict_texts(server, texts or []))
    except ServerFailed as error:
        print(f"pigeonhole: {error}", file=sys.stderr)
        raise typer.Exit(3) from error


def main() -> NoReturn:
    """Run the command line."""
    ended(app)


def ended(commands: typer.Typer) -> NoReturn:
    """Run commands and end the process; bad input ends in one sentence and exit code 2."""
    try:
        with missing_extra_named():
            commands()
    except InputError as error:
        print(f"pigeonhole: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        from pipelines.running.local import StepFailed

        if not isinstance(error, StepFailed):
            raise
        print(f"{error}\npigeonhole: a step failed unexpectedly; the end of its log is above", file=sys.stderr)
        sys.exit(3)
    sys.exit(0)


def _absolute(place: str) -> str:
    return str(Path(place).resolve()) if place and Path(place).is_dir() else place


def _name_of(data: str) -> str:
    if data == "sample":
        return "news-topics"
    return re.sub(r"[^a-z0-9]+", "-", Path(data.removeprefix("hf:")).name.lower()).strip("-") or "texts"


def _print(result: dict[str, Any]) -> None:
    print(json.dumps(result, indent=2, ensure_ascii=False))
