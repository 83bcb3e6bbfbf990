"""The commands that watch a model in service: `pigeonhole monitor ...`."""

import sys
from contextlib import redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.base.commands import Commands
from pipelines.cli.base.options import FormatOption, LoginOptions
from pipelines.cli.base.output import show
from predictor.errors import InputError

app = Commands(help="Watch a model in service: what comes in, and whether it still answers well.")


Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter", "-p", metavar="NAME=VALUE", help="One of the monitoring pipeline's parameters; repeatable."
    ),
]


@app.command()
def drift(
    bundle: Annotated[Path, typer.Argument(help="The bundle in service.")],
    out: Annotated[
        Path, typer.Option(envvar="PIGEONHOLE_OUT", help="Folder for verdict.json, drift.html and unlike.parquet.")
    ],
    log_url: Annotated[str, typer.Option(envvar="PIGEONHOLE_LOG_URL", help="The prediction log.")] = "",
    texts: Annotated[
        Path | None,
        typer.Option(help="A file of texts in the log's place: .csv, .jsonl, .parquet; text, and label if known."),
    ] = None,
    model_name: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_MODEL_NAME", help="The model's name in the log and in the figures.")
    ] = "classifier",
    hours: Annotated[
        float, typer.Option(envvar="PIGEONHOLE_HOURS", min=0.01, help="How long the window of the log is.")
    ] = 24.0,
    until: Annotated[str, typer.Option(help="The end of the window, ISO 8601.  [default: now]")] = "",
    level: Annotated[
        float, typer.Option(envvar="PIGEONHOLE_LEVEL", help="Chance of a false alarm, of all parts.")
    ] = 0.01,
    least_size: Annotated[
        float,
        typer.Option(envvar="PIGEONHOLE_LEAST_SIZE", help="Share of the texts that has to change."),
    ] = 0.05,
    push_url: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_PUSH_URL", help="A Pushgateway for the figures.  [default: none]")
    ] = "",
    metrics_file: Annotated[
        Path | None,
        typer.Option(
            envvar="PIGEONHOLE_METRICS_FILE", help="A .prom file for the textfile collector.  [default: none]"
        ),
    ] = None,
    format_: FormatOption = None,
) -> None:
    """Compare what came in with what the bundle was validated on.

    Prints the verdict. Exit code 1 means drift: the texts or the answers have changed, or the accuracy has dropped.

    Examples:
      pigeonhole monitor drift out/news/bundles/0123456789ab --log-url out/log --model-name news --out out/drift
      pigeonhole monitor drift out/news/bundles/0123456789ab --texts today.csv --out out/drift
    """
    from components.monitoring.drift.index import Limits
    from components.monitoring.publish import Places

    if bool(log_url) == bool(texts):
        raise InputError("what came in is not given, or twice: give either --log-url or --texts")
    with redirect_stdout(sys.stderr):
        from components.monitoring.drift.steps import drift_of_file, drift_of_log

        places, limits = Places(push_url, metrics_file), Limits(level, least_size)
        if texts:
            verdict = drift_of_file(out, bundle, texts, model_name, places, limits)
        else:
            verdict = drift_of_log(out, bundle, log_url, model_name, *_span(hours, until), places, limits)
    show(verdict.as_json(), format_)
    if verdict.drifted:
        raise typer.Exit(1)


def _span(hours: float, until: str) -> tuple[datetime, datetime]:
    from components.monitoring.drift.windows import instant

    end = instant(until)
    return end - timedelta(hours=hours), end


@app.command()
def run(
    out: Annotated[
        Path, typer.Option(envvar="PIGEONHOLE_OUT", help="The folder of results that pigeonhole run wrote.")
    ] = Path("out"),
    log_url: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_LOG_URL", help="Folder or URI of the prediction log.")
    ] = "",
    model_name: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_MODEL_NAME", help="The model's name in the log.")
    ] = "classifier",
    parameter: Parameters = None,
    format_: FormatOption = None,
) -> None:
    """Run one round of monitoring on this machine.

    Compacts the log, looks for drift, joins feedback with logged texts, decides, and then stops, asks for labels, or
    trains on the enlarged data into the same folder of results. Prints answer (stop, label or retrain), reasons and
    more. Exit code 1 means that it retrained and the gate stayed closed.

    Examples:
      pigeonhole monitor run --out out/news --log-url out/log
      pigeonhole monitor run --out out/news --log-url out/log -p hours=48 -p 'guards={"min_new_rows": 200}'
      pigeonhole monitor run --out out/news --log-url out/log -p 'training=["profile=full", "min_accuracy=0.85"]'
    """
    from pipelines.running.monitoring import run_monitoring

    given = {assignment.partition("=")[0] for assignment in parameter or []}
    log = str(Path(log_url).resolve()) if log_url and "://" not in log_url else log_url
    named = {"log_url": log, "model": model_name}
    others = [f"{name}={value}" for name, value in named.items() if value and name not in given]
    result = run_monitoring(out, [*(parameter or []), *others])
    show(result, format_)
    if result.get("training", {}).get("state") == "closed":
        raise typer.Exit(1)


def trigger(
    webhook_token_file: Annotated[
        Path,
        typer.Option(
            envvar="PIGEONHOLE_WEBHOOK_TOKEN_FILE",
            help="The file with the bearer token that Alertmanager sends, read anew for each request.",
        ),
    ],
    state: Annotated[
        Path, typer.Option(envvar="PIGEONHOLE_STATE", help="The SQLite file that holds alerts and runs.")
    ] = Path("trigger.db"),
    file: Annotated[
        Path | None,
        typer.Option(
            "--pipeline", envvar="PIGEONHOLE_PIPELINE", help="monitoring.yaml of compile, to run on Kubeflow."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(envvar="PIGEONHOLE_OUT", help="A folder of results, to run here, as for monitor run."),
    ] = None,
    model_name: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_MODEL_NAME", help="The model's name; alerts on others are ignored.")
    ] = "classifier",
    parameter: Parameters = None,
    address: Annotated[str, typer.Option(envvar="PIGEONHOLE_ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="PIGEONHOLE_PORT", min=1, max=65535, help="POST /alerts.")] = 8085,
    cooldown: Annotated[
        float, typer.Option(envvar="PIGEONHOLE_COOLDOWN", min=0, help="Hours between the starts of two trainings.")
    ] = 24.0,
    max_a_week: Annotated[
        int, typer.Option(envvar="PIGEONHOLE_MAX_A_WEEK", min=0, help="Most trainings within seven days.")
    ] = 2,
    min_new_rows: Annotated[
        int, typer.Option(envvar="PIGEONHOLE_MIN_NEW_ROWS", min=1, help="Fewest new labelled rows for a training.")
    ] = 100,
    retry: Annotated[
        float,
        typer.Option(
            envvar="PIGEONHOLE_RETRY", min=0, help="Hours until an alert whose run trained nothing may start another."
        ),
    ] = 1.0,
    experiment: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_EXPERIMENT", help="What Kubeflow groups the runs under.")
    ] = "pigeonhole",
    service_account: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_SERVICE_ACCOUNT", help="What the steps run as.")
    ] = "",
    *,
    login: LoginOptions,
) -> None:
    r"""Start a round of monitoring when an alert asks for it.

    Takes Alertmanager's webhooks at POST /alerts. A firing alert whose response is retrain or label starts a round,
    here or on Kubeflow, once for each groupKey and startsAt, and one at a time. Serves /healthz, /metrics and /runs.

    Examples:
      pigeonhole trigger --webhook-token-file token --out out/news --model-name news -p log_url=out/log
      pigeonhole trigger --webhook-token-file /etc/trigger/token --pipeline build/ir/monitoring.yaml \
        --host https://kubeflow.example.com/pipeline --model-name news -p log_url=s3://log -p data=s3://data/news \
        -p data_root=s3://data/news-enlarged
    """
    import json

    if bool(file) == bool(out):
        raise InputError("there is not one place to run: give --out to run here, or --pipeline to run on Kubeflow")
    from pipelines.trigger.serving import serve
    from pipelines.trigger.starters import Here, OnKubeflow, Starter
    from pipelines.trigger.state import State
    from pipelines.trigger.worker import guards_of
    from predictor.tokens import TokenFile

    guards = {"cooldown_hours": cooldown, "max_a_week": max_a_week, "min_new_rows": min_new_rows}
    parameters = [*(parameter or []), f"model={model_name}", f"guards={json.dumps(guards)}"]
    starter: Starter
    if file:
        starter = OnKubeflow(login.checked(), file, parameters, experiment, service_account)
    else:
        from pipelines.running.monitoring import monitoring_arguments

        monitoring_arguments([*parameters, "alert="], {"data": "", "data_root": ""})  # wrong ones end it now, not later
        starter = Here(["--out", str(out), *(word for each in parameters for word in ("-p", each))])
    held = State(state, guards_of(cooldown, max_a_week), retry * 3600)
    serve(held, starter, TokenFile(webhook_token_file), model_name, address, port)
