"""The commands of a rollout: `pigeonhole rollout ...`, and with kubectl's plugin `kubectl pigeonhole ...`."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.base.commands import Commands
from pipelines.cli.base.options import FormatOption
from pipelines.cli.base.output import show, show_changes
from predictor.errors import InputError, Unavailable

if TYPE_CHECKING:  # which imports the Kubernetes client
    from components.platform.kubernetes import Cluster
    from components.rollout.state import Rollout

app = Commands(
    help="Roll a new version out beside the one in service, judge it, promote it or take it back.", add_completion=False
)

Name = Annotated[str, typer.Argument(help="The InferenceService.")]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", envvar="PIGEONHOLE_NAMESPACE", help="Where it is.  [default: the kubeconfig's]"),
]
MlflowOption = Annotated[
    str,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI",
        help="Where the end is kept, too, and @champion moves to what is served.  [default: nowhere]",
    ),
]


@app.command()
def start(
    name: Name,
    bundle: Annotated[str, typer.Option(envvar="PIGEONHOLE_BUNDLE", help="Its address, which ends in its digest.")],
    namespace: Namespace = "",
    interval: Annotated[
        float, typer.Option(envvar="PIGEONHOLE_INTERVAL", min=1, help="Seconds between two checks.")
    ] = 120.0,
    step_weight: Annotated[
        int, typer.Option(envvar="PIGEONHOLE_STEP_WEIGHT", min=1, max=100, help="Percent of traffic more at each step.")
    ] = 10,
    max_weight: Annotated[
        int,
        typer.Option(envvar="PIGEONHOLE_MAX_WEIGHT", min=1, max=100, help="Percent of traffic that ends in promotion."),
    ] = 50,
    threshold: Annotated[
        int,
        typer.Option(
            envvar="PIGEONHOLE_THRESHOLD", min=1, help="Failed checks, by harm or no evidence, till rollback."
        ),
    ] = 1,
    min_requests: Annotated[
        int, typer.Option(envvar="PIGEONHOLE_MIN_REQUESTS", min=0, help="To the canary, before the next step.")
    ] = 500,
    deadline: Annotated[
        float, typer.Option(envvar="PIGEONHOLE_DEADLINE", min=1, help="Seconds to get ready, or to the next step.")
    ] = 1800.0,
    format_: FormatOption = None,
) -> None:
    """Put a bundle beside the one in service, without traffic.

    Asked again for the same bundle it goes on where it was. Prints the rollout.

    Example:
      pigeonhole rollout start news --bundle s3://models/news/0123456789ab
    """
    from components.platform.kubernetes import connect
    from components.rollout import controller
    from components.rollout.state import Settings
    from pipelines.cli.rollout_view import facts

    with _on_stderr():
        settings = Settings(interval, step_weight, max_weight, threshold, min_requests, deadline)
        record = controller.start(connect(namespace), name, bundle, settings)
    assert record.rollout is not None
    show(facts(record.rollout), format_)


@app.command()
def status(
    name: Name,
    namespace: Namespace = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow it until it has ended; Ctrl-C leaves it alone.")
    ] = False,
    format_: FormatOption = None,
) -> None:
    """Say where a rollout stands.

    Prints phase, weight, both versions, the last check's reasons. Changes nothing. With --watch it prints them again
    whenever they have changed, as a line of JSON or on a clear screen.

    Examples:
      pigeonhole rollout status news
      pigeonhole rollout status news --watch
    """
    from components.platform.kubernetes import connect
    from pipelines.cli.rollout_view import standing, until_ended

    with _on_stderr():
        cluster = connect(namespace)
    if watch:
        try:
            show_changes(until_ended(lambda: standing(cluster, name)), format_)
        except KeyboardInterrupt:
            raise typer.Exit(128 + signal.SIGINT) from None
    else:
        with _on_stderr():
            found = standing(cluster, name)
        show(found, format_)


@app.command()
def judge(
    name: Name,
    prometheus: Annotated[str, typer.Option(envvar="PIGEONHOLE_PROMETHEUS", help="Its address.")],
    namespace: Namespace = "",
    selector: Annotated[
        str,
        typer.Option(
            envvar="PIGEONHOLE_SELECTOR",
            help='Label matchers of the metrics.  [default: namespace="...",model_name=NAME]',
        ),
    ] = "",
    golden: Annotated[
        Path | None,
        typer.Option(envvar="PIGEONHOLE_GOLDEN", help="Texts, one a line, that both versions are asked first."),
    ] = None,
    disagreement: Annotated[
        float,
        typer.Option(envvar="PIGEONHOLE_DISAGREEMENT", min=0, max=1, help="Share of them that may get another label."),
    ] = 0.1,
    stable_url: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_STABLE_URL", help="Where they are asked.  [default: inside the cluster]")
    ] = "",
    canary_url: Annotated[str, typer.Option(envvar="PIGEONHOLE_CANARY_URL", help="The same for the canary.")] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="PIGEONHOLE_TOKEN_FILE", help="A file with the bearer token that predictors want for them."
        ),
    ] = None,
    mlflow_tracking_uri: MlflowOption = "",
    format_: FormatOption = None,
) -> None:
    """Give a canary more and more traffic while nothing speaks against it.

    Goes on with the current rollout, no matter who began it, until the canary has all traffic or none, and prints its
    end. Exit code 1 means that it was taken back. May be killed and called again at any time.

    Examples:
      pigeonhole rollout judge news --prometheus http://prometheus.monitoring:9090
      pigeonhole rollout judge news --prometheus http://localhost:9090 --golden golden.txt
    """
    from components.platform.kubernetes import connect
    from components.rollout.controller import run_to_end
    from components.rollout.golden import Golden
    from components.rollout.judging.evidence import Prometheus, selector_of
    from components.rollout.observer import Evidence
    from pipelines.cli.rollout_view import facts

    asked = Golden(_texts(golden), disagreement, stable_url, canary_url, token_file) if golden else None
    with _on_stderr():
        cluster = connect(namespace)
        evidence = Evidence(Prometheus(prometheus, selector or selector_of(cluster.namespace, name)), asked)
        end = run_to_end(cluster, name, evidence)
    show(facts(end), format_)
    if mlflow_tracking_uri:
        _keep(cluster, name, end, mlflow_tracking_uri)
    _exit_as(end)


@app.command()
def promote(
    name: Name, namespace: Namespace = "", mlflow_tracking_uri: MlflowOption = "", format_: FormatOption = None
) -> None:
    """Give the canary all traffic now, without more checks.

    Example:
      pigeonhole rollout promote news
    """
    from components.platform.kubernetes import connect
    from components.rollout import endings
    from pipelines.cli.rollout_view import facts

    with _on_stderr():
        cluster = connect(namespace)
        end = endings.promote(cluster, name)
    show(facts(end), format_)
    if mlflow_tracking_uri:
        _keep(cluster, name, end, mlflow_tracking_uri)
    _exit_as(end)


@app.command()
def rollback(
    name: Name,
    to: Annotated[str, typer.Option(help="A version of the history.  [default: the one before]")] = "",
    namespace: Namespace = "",
    mlflow_tracking_uri: MlflowOption = "",
    format_: FormatOption = None,
) -> None:
    """Take the canary back; without one return to an earlier version.

    An earlier version starts beside the one in service and takes over when it is ready. Exit code 1 means that it did
    not get ready, and nothing changed.

    Examples:
      pigeonhole rollout rollback news
      pigeonhole rollout rollback news --to 0123456789ab
    """
    from components.platform.kubernetes import connect
    from components.rollout import endings
    from components.rollout.record import load
    from components.rollout.state import Phase
    from pipelines.cli.rollout_view import facts

    with _on_stderr():
        cluster = connect(namespace)
        before = load(cluster, name).active
        end = endings.roll_back(cluster, name, to)
    show(facts(end), format_)
    if mlflow_tracking_uri:
        _keep(cluster, name, _as_promotion(end, before), mlflow_tracking_uri)
    # A canary that was taken back is what was asked for; a return that was taken back is not.
    if end.phase is Phase.ROLLED_BACK and not end.judged:
        raise typer.Exit(1)


@app.command()
def history(name: Name, namespace: Namespace = "", format_: FormatOption = None) -> None:
    """List the versions a service has had, earliest first, with what became of each.

    Example:
      pigeonhole rollout history news
    """
    from components.platform.kubernetes import connect
    from pipelines.cli.rollout_view import versions

    with _on_stderr():
        listed = versions(connect(namespace), name)
    show(listed, format_)


@contextmanager
def _on_stderr() -> Iterator[None]:
    """Keep stdout for the result: what the steps say goes to stderr."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Unavailable as error:
        raise Unavailable(f"{error}: the same call goes on where this one was") from error


def _texts(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeError) as error:
        raise InputError(f"--golden {file} cannot be read ({error}): give a file of texts, one a line") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise InputError(f"--golden {file} has no texts: give at least one")
    return texts


def _keep(cluster: "Cluster", name: str, end: "Rollout", mlflow_tracking_uri: str) -> None:
    """Keep the end of a rollout in MLflow: as a run, and on the bundle's version, which may be the champion now."""
    with _on_stderr():
        import mlflow

        from components.platform.tracking import mlflow_client, tracked_run
        from components.registry.promotion import conclude_rollout

        canary, phase = end.canary.name, str(end.phase)
        with mlflow_client(mlflow_tracking_uri) as client:
            conclude_rollout(client, f"{cluster.namespace}/{name}", canary, phase, end.since, end.reasons)
            with tracked_run(f"rollout {name} {canary}", mlflow_tracking_uri):
                mlflow.set_tags({"rollout": phase, "rollout_reasons": "; ".join(end.reasons)})


def _as_promotion(end: "Rollout", before: "Rollout | None") -> "Rollout":
    """Return a return to an earlier version as its promotion; any other rollback as it is.

    In Knative mode the record of a return names the earlier version as the stable one, to which the traffic goes back.

    Args:
        end: how the rollback ended.
        before: the rollout that was active before it, if any.
    """
    from components.rollout.state import Phase

    returned = before is None or before.started != end.started
    if returned and end.judged and end.phase is Phase.ROLLED_BACK:
        return replace(end, canary=end.stable, stable=end.canary, phase=Phase.PROMOTED)
    return end


def _exit_as(end: "Rollout") -> None:
    from components.rollout.state import Phase

    if end.phase is not Phase.PROMOTED:
        raise typer.Exit(1)
