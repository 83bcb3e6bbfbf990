"""The commands of a rollout: `pigeonhole rollout ...`, and with kubectl's plugin `kubectl pigeonhole ...`."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from predictor.errors import InputError

app = typer.Typer(
    help="Roll a new version out beside the one in service, judge it, promote it or take it back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
)

# What the rollout notes for itself.
_UNSHOWN = ("judged_since", "looked", "canary_predictor", "stable_predictor", "running", "min_replicas", "max_replicas")

Name = Annotated[str, typer.Argument(help="The InferenceService.")]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", envvar="PIGEONHOLE_NAMESPACE", help="Where it is.  [default: the kubeconfig's]"),
]

_START = """Put a bundle beside the one in service, without traffic.

Asked again for the same bundle it goes on where it was. Prints the rollout as JSON.

\b
Example:
  pigeonhole rollout start news --bundle s3://models/news/0123456789ab
"""


@app.command(help=_START)
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
) -> None:
    """Start."""
    from components.platform.kubernetes import connect
    from components.rollout import controller
    from components.rollout.state import Settings

    with _on_stderr():
        settings = Settings(interval, step_weight, max_weight, threshold, min_requests, deadline)
        record = controller.start(connect(namespace), name, bundle, settings)
    assert record.rollout is not None
    _print(_shown(asdict(record.rollout)))


_STATUS = """Say where a rollout stands.

Prints JSON: phase, weight, both versions, the last check's reasons. Changes nothing.

\b
Example:
  pigeonhole rollout status news
"""


@app.command(help=_STATUS)
def status(name: Name, namespace: Namespace = "") -> None:
    """Status."""
    from components.platform.kubernetes import connect
    from components.rollout.inference_service import read
    from components.rollout.record import load
    from components.rollout.versions import version_at

    with _on_stderr():
        cluster = connect(namespace)
        service, record = read(cluster, name), load(cluster, name)
        serves = version_at(service.uri).name
    _print({"serves": serves, "rollout": _shown(asdict(record.rollout)) if record.rollout else None})


_JUDGE = """Give a canary more and more traffic while nothing speaks against it.

Goes on with the rollout, whoever began it, until the canary has all traffic or none, and prints its end as JSON. Exit
code 1 means that it was taken back. May be killed and called again at any time.

\b
Examples:
  pigeonhole rollout judge news --prometheus http://prometheus.monitoring:9090
  pigeonhole rollout judge news --prometheus http://localhost:9090 --golden golden.txt
"""


@app.command(help=_JUDGE)
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
    mlflow_tracking_uri: Annotated[
        str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="Where the verdict is kept, too.  [default: nowhere]")
    ] = "",
) -> None:
    """Judge."""
    from components.platform.kubernetes import connect
    from components.rollout.controller import run_to_end
    from components.rollout.golden import Golden
    from components.rollout.judging.evidence import Prometheus, selector_of
    from components.rollout.observer import Evidence

    asked = Golden(_texts(golden), disagreement, stable_url, canary_url) if golden else None
    with _on_stderr():
        cluster = connect(namespace)
        evidence = Evidence(Prometheus(prometheus, selector or selector_of(cluster.namespace, name)), asked)
        end = run_to_end(cluster, name, evidence)
        if mlflow_tracking_uri:
            import mlflow

            from components.platform.tracking import tracked_run

            with tracked_run(f"rollout {name} {end.canary.name}", mlflow_tracking_uri):
                mlflow.set_tags({"rollout": str(end.phase), "rollout_reasons": "; ".join(end.reasons)})
    _finish(end)


_PROMOTE = """Give the canary all traffic now, without more checks.

\b
Example:
  pigeonhole rollout promote news
"""


@app.command(help=_PROMOTE)
def promote(name: Name, namespace: Namespace = "") -> None:
    """Promote."""
    from components.platform.kubernetes import connect
    from components.rollout import endings

    with _on_stderr():
        end = endings.promote(connect(namespace), name)
    _finish(end)


_ROLLBACK = """Take the canary back; without one return to an earlier version.

An earlier version starts beside the one in service and takes over when it is ready. Exit code 1 means that it did not
get ready, and nothing changed.

\b
Examples:
  pigeonhole rollout rollback news
  pigeonhole rollout rollback news --to 0123456789ab
"""


@app.command(help=_ROLLBACK)
def rollback(
    name: Name,
    to: Annotated[str, typer.Option(help="A version of the history.  [default: the one before]")] = "",
    namespace: Namespace = "",
) -> None:
    """Roll back."""
    from components.platform.kubernetes import connect
    from components.rollout import endings
    from components.rollout.state import Phase

    with _on_stderr():
        end = endings.roll_back(connect(namespace), name, to)
    _print(_shown(asdict(end)))
    # A canary that was taken back is what was asked for; a return that was taken back is not.
    if end.phase is Phase.ROLLED_BACK and not end.judged:
        raise typer.Exit(1)


_HISTORY = """List the versions a service has had, earliest first, with what became of each.

\b
Example:
  pigeonhole rollout history news
"""


@app.command(help=_HISTORY)
def history(name: Name, namespace: Namespace = "") -> None:
    """History."""
    from components.platform.kubernetes import connect
    from components.rollout.inference_service import read
    from components.rollout.record import load
    from components.rollout.versions import version_at

    with _on_stderr():
        cluster = connect(namespace)
        service, record = read(cluster, name), load(cluster, name)
        serves = version_at(service.uri).name
    # A version may have come back; its last entry is the one that serves.
    serving = max((place for place, e in enumerate(record.history) if e.version.name == serves), default=None)
    rows = [
        {
            "version": entry.version.name,
            "bundle": entry.version.uri,
            "outcome": entry.outcome,
            "ended": _time(entry.ended),
            "reasons": list(entry.reasons),
            "serves": place == serving,
        }
        for place, entry in enumerate(record.history)
    ]
    _print({"service": name, "versions": rows})


def plugin() -> NoReturn:
    """Run the commands as `kubectl pigeonhole`: kubectl hands on all that follows to an executable of this name."""
    from pipelines.cli.app import ended

    ended(app)


@contextmanager
def _on_stderr() -> Iterator[None]:
    """Keep stdout for the result; what the steps say goes to stderr, and a cluster that is away ends in exit code 3."""
    from components.rollout.inference_service import Away

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Away as error:
        print(f"pigeonhole: {error}: the same call goes on where this one was", file=sys.stderr)
        raise typer.Exit(3) from error


def _texts(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeError) as error:
        raise InputError(f"--golden {file} cannot be read ({error}): give a file of texts, one a line") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise InputError(f"--golden {file} has no texts: give at least one")
    return texts


def _finish(end: Any) -> None:
    from components.rollout.state import Phase

    _print(_shown(asdict(end)))
    if end.phase is not Phase.PROMOTED:
        raise typer.Exit(1)


def _shown(rollout: dict[str, Any]) -> dict[str, Any]:
    times = {key: _time(rollout[key]) for key in ("started", "since")}
    return {**{k: v for k, v in rollout.items() if k not in _UNSHOWN}, **times}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _print(result: dict[str, Any]) -> None:
    print(json.dumps(result, indent=2, ensure_ascii=False))
