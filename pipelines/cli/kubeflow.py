"""The commands that speak to Kubeflow Pipelines: submit and schedule."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from predictor.errors import InputError, one_line

if TYPE_CHECKING:  # kfp takes seconds to import
    from pipelines.kubeflow.client import Kubeflow, Login
    from pipelines.kubeflow.package import Package
    from pipelines.kubeflow.submission import Version

File = Annotated[Path | None, typer.Argument(help="A pipeline that pigeonhole compile wrote.", metavar="[FILE]")]
Parameters = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="One of its parameters; repeatable.")
]
Experiment = Annotated[
    str, typer.Option(envvar="PIGEONHOLE_EXPERIMENT", help="What Kubeflow groups the runs under.", show_default=True)
]
ServiceAccount = Annotated[
    str,
    typer.Option(envvar="PIGEONHOLE_SERVICE_ACCOUNT", help="What the steps run as.  [default: the installation's]"),
]
Host = Annotated[
    str,
    typer.Option(
        envvar=["PIGEONHOLE_HOST", "KF_PIPELINES_ENDPOINT"],
        help="Address of Kubeflow Pipelines; behind the dashboard it ends in /pipeline.",
    ),
]
Namespace = Annotated[
    str,
    typer.Option(
        envvar="PIGEONHOLE_NAMESPACE",
        help="Whose runs they are, where Kubeflow has many users.  [default: the pod's own]",
    ),
]
Token = Annotated[
    str, typer.Option(envvar="PIGEONHOLE_TOKEN", help="A bearer token; better in the variable than on the line.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        envvar="PIGEONHOLE_TOKEN_FILE",
        help="A file with a token, read anew for each request.  [default: where Kubeflow mounts one, if it does]",
    ),
]
Cookie = Annotated[
    str, typer.Option(envvar="PIGEONHOLE_COOKIE", help="The Cookie header of a session, NAME=VALUE; as for --token.")
]
CaCert = Annotated[
    Path | None,
    typer.Option(envvar="PIGEONHOLE_CA_CERT", help="PEM file of the server's authority.  [default: public ones]"),
]

SUBMIT = """Run a compiled pipeline on Kubeflow.

Uploads FILE as a version named by its content, once, and starts a run of it. Prints one JSON object with run_id, state,
version and more. With --wait the exit code is 0 if the run succeeded and 1 if it did not; 3 says that it goes on, but
that the waiting ended or Kubeflow is broken.

\b
Examples:
  pigeonhole compile --out build/ir --image registry.example.com/pigeonhole/steps-python@sha256:...
  pigeonhole submit build/ir/training.yaml --host https://kubeflow.example.com/pipeline --namespace team-a \\
    --token-file /var/run/secrets/kubeflow/pipelines/token -p bundle_root=s3://models/news --wait
  pigeonhole submit --follow RUN_ID
  pigeonhole submit --stop RUN_ID
"""

SCHEDULE = """Run a compiled pipeline on Kubeflow again and again.

NAME is known by its namespace: the same call twice leaves one schedule, a call with anything changed replaces it, and
one that is paused stays paused. Prints one JSON object with change (created, replaced, unchanged, paused, resumed,
deleted) and more.

\b
Examples:
  pigeonhole schedule nightly build/ir/training.yaml --cron "0 0 3 * * *" -p bundle_root=s3://models/news
  pigeonhole schedule nightly --pause
  pigeonhole schedule nightly --resume
  pigeonhole schedule nightly --delete
"""


def submit(
    file: File = None,
    parameter: Parameters = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the run's end.")] = False,
    timeout: Annotated[
        float, typer.Option(envvar="PIGEONHOLE_TIMEOUT", min=0, help="Seconds to wait at most.")
    ] = 86400,
    follow: Annotated[str, typer.Option(metavar="RUN_ID", help="Start nothing; wait for this run.")] = "",
    stop: Annotated[str, typer.Option(metavar="RUN_ID", help="Start nothing; end this run.")] = "",
    experiment: Experiment = "pigeonhole",
    service_account: ServiceAccount = "",
    host: Host = "",
    namespace: Namespace = "",
    token: Token = "",
    token_file: TokenFile = None,
    cookie: Cookie = "",
    ca_cert: CaCert = None,
) -> None:
    """Submit."""
    if sum(map(bool, (file, follow, stop))) != 1:
        raise InputError("there is not one thing to do: give a FILE, or --follow RUN_ID, or --stop RUN_ID")
    package, arguments = _read(file, parameter)
    login = _login(host, namespace, token, token_file, cookie, ca_cert)
    run_id, result = follow or stop, dict[str, Any]()
    try:
        with _kubeflow(login) as kubeflow:
            from pipelines.kubeflow import submission

            if package:
                version = submission.upload(kubeflow, package)
                run_id = submission.start(kubeflow, version, arguments, experiment, service_account)
                result |= _told(package, version)
            elif stop:
                submission.stop(kubeflow, stop)
            result |= {"run_id": run_id, "url": f"{host.rstrip('/')}/#/runs/details/{run_id}"}
            if wait or follow:
                _wait(kubeflow, run_id, timeout, result)
    finally:  # a run that was started is told of, whatever becomes of the waiting
        if "run_id" in result:
            _print(result)
    wanted = "CANCELED" if stop else "SUCCEEDED"
    if result.get("state", wanted) != wanted:
        where = f" in {', '.join(result['failed_tasks'])}" if result["failed_tasks"] else ""
        why = f" ({result['error']})" if result["error"] else ""
        print(f"pigeonhole: run {run_id} {result['state']}{where}{why}: look at {result['url']}", file=sys.stderr)
        raise typer.Exit(1)


def schedule(
    name: Annotated[str, typer.Argument(help="The schedule's name.")],
    file: File = None,
    cron: Annotated[
        str,
        typer.Option(
            help="When: second, minute, hour, day, month, weekday, in Kubeflow's time zone (UTC, if it sets no other)."
        ),
    ] = "",
    parameter: Parameters = None,
    pause: Annotated[bool, typer.Option("--pause", help="Let it start no runs.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Let it start runs again.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; runs that it started go on.")] = False,
    experiment: Experiment = "pigeonhole",
    service_account: ServiceAccount = "",
    host: Host = "",
    namespace: Namespace = "",
    token: Token = "",
    token_file: TokenFile = None,
    cookie: Cookie = "",
    ca_cert: CaCert = None,
) -> None:
    """Schedule."""
    if sum((bool(file), pause, resume, delete)) != 1 or bool(file) != bool(cron):
        raise InputError("there is not one thing to do: give FILE and --cron, or --pause, or --resume, or --delete")
    package, arguments = _read(file, parameter)
    login = _login(host, namespace, token, token_file, cookie, ca_cert)
    from pipelines.kubeflow import schedule as schedules

    wanted = package and schedules.Schedule(name, cron, package.version, arguments, experiment, service_account)
    with _kubeflow(login) as kubeflow:
        from pipelines.kubeflow.submission import upload

        result: dict[str, Any] = {}
        if package and wanted:
            version = upload(kubeflow, package)
            standing = schedules.put(kubeflow, wanted, version)
            result = {"cron": cron, **_told(package, version)}
        elif delete:
            standing = schedules.delete(kubeflow, name)
        else:
            standing = schedules.pause(kubeflow, name, paused=pause)
    told = {"schedule": name, "change": standing.change, "recurring_run_id": standing.recurring_run_id}
    _print({**told, "paused": standing.paused, **result})
    if package and standing.paused:
        print(f"pigeonhole: {name} is paused: start it with pigeonhole schedule {name} --resume", file=sys.stderr)


def _read(file: Path | None, assignments: list[str] | None) -> "tuple[Package | None, dict[str, Any]]":
    if not file:
        if assignments:
            raise InputError("--parameter belongs to what will run: give the FILE, too")
        return None, {}
    from pipelines.kubeflow.package import read_package

    package = read_package(file)
    return package, package.arguments(assignments or [])


def _login(
    host: str, namespace: str, token: str, token_file: Path | None, cookie: str, ca_cert: Path | None
) -> "Login":
    from pipelines.kubeflow.client import Login

    return Login(host, namespace, token, token_file, cookie, ca_cert)


@contextmanager
def _kubeflow(login: "Login") -> "Iterator[Kubeflow]":
    """Yield the server, once it has answered; what breaks there ends in one sentence and exit code 3."""
    from pipelines.kubeflow.client import KubeflowFailed, connect

    try:
        with redirect_stdout(sys.stderr):  # kfp prints where to look
            yield connect(login)
    except KubeflowFailed as error:
        print(f"pigeonhole: {error}", file=sys.stderr)
        raise typer.Exit(3) from error


def _wait(kubeflow: "Kubeflow", run_id: str, timeout: float, result: dict[str, Any]) -> None:
    """Wait, and put the run's end into the result; SIGTERM and Ctrl-C end the waiting, not the run."""
    from pipelines.kubeflow.submission import Patience, failures, how_to_go_on
    from pipelines.kubeflow.submission import wait as wait_for
    from pipelines.running.stopping import Stopped, stopped_with_children

    try:
        with stopped_with_children():
            run = wait_for(kubeflow, run_id, Patience(timeout))
    except Stopped as stop:
        print(f"pigeonhole: {stop.signal} ended the waiting; {how_to_go_on(run_id)}", file=sys.stderr)
        raise
    result["state"] = run.state
    result["failed_tasks"] = failures(run)
    result["error"] = one_line(run.error.message or "", most=300) if run.error else ""


def _told(package: "Package", version: "Version") -> dict[str, Any]:
    return {
        "pipeline": package.pipeline,
        "version": version.name,
        "digest": package.digest,
        "uploaded": version.uploaded,
    }


def _print(result: dict[str, Any]) -> None:
    print(json.dumps(result, indent=2, ensure_ascii=False))
