"""The commands of Kubeflow Pipelines: compile, submit and schedule."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.base.options import FormatOption, LoginOptions, TaskOption
from pipelines.cli.base.output import show
from predictor.errors import InputError, one_line

if TYPE_CHECKING:  # kfp takes seconds to import
    from pipelines.kubeflow.client import Kubeflow
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


def compile_(
    out: Annotated[Path, typer.Option(envvar="PIGEONHOLE_OUT", help="Folder for the YAML files.")],
    image: Annotated[
        str,
        typer.Option(envvar="PIGEONHOLE_STEPS_IMAGE", help="Container image of the steps.  [default: this release's]"),
    ] = "",
    kubernetes: Annotated[bool, typer.Option("--kubernetes", help="Write Kubernetes objects, too.")] = False,
    format_: FormatOption = None,
) -> None:
    """Compile the pipelines for Kubeflow.

    Writes IR YAML, one file a pipeline: what submit and schedule take. With --kubernetes it also writes each as the
    objects Pipeline and PipelineVersion, for kubectl apply where Kubeflow keeps its pipelines in Kubernetes.

    Examples:
      pigeonhole compile --out build/ir --image registry.example.com/pigeonhole/steps-python@sha256:...
      pigeonhole compile --out build/ir --kubernetes && kubectl apply -n team-a -f build/ir/kubernetes
    """
    from components import STEPS_IMAGE
    from pipelines.running.compiling import compile_all, write_manifests

    try:
        files = compile_all(out, image or STEPS_IMAGE)
        manifests = write_manifests(files) if kubernetes else []
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error.strerror}): choose another folder") from error
    written = {"files": files} | ({"kubernetes": manifests} if manifests else {})
    show({kind: list(map(str, paths)) for kind, paths in written.items()}, format_)


def submit(
    file: File = None,
    task: TaskOption = "",
    parameter: Parameters = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the run's end.")] = False,
    timeout: Annotated[
        float, typer.Option(envvar="PIGEONHOLE_TIMEOUT", min=0, help="Seconds to wait at most.")
    ] = 86400,
    follow: Annotated[str, typer.Option(metavar="RUN_ID", help="Start nothing; wait for this run.")] = "",
    stop: Annotated[str, typer.Option(metavar="RUN_ID", help="Start nothing; end this run.")] = "",
    experiment: Experiment = "pigeonhole",
    service_account: ServiceAccount = "",
    *,
    login: LoginOptions,
    format_: FormatOption = None,
) -> None:
    r"""Run a compiled pipeline on Kubeflow.

    Uploads FILE as a version named by its content, once, and starts a run of it. Prints run_id, state, version and
    more. With --wait the exit code is 0 if the run succeeded and 1 if it did not; 3 says that it goes on, but that
    the waiting ended or Kubeflow is broken.

    Examples:
      pigeonhole compile --out build/ir --image registry.example.com/pigeonhole/steps-python@sha256:...
      pigeonhole submit build/ir/training.yaml --host https://kubeflow.example.com/pipeline --namespace team-a \
        --token-file /var/run/secrets/kubeflow/pipelines/token -p bundle_root=s3://models/news --wait
      pigeonhole submit build/ir/training.yaml --task sentiment -p bundle_root=s3://models/sentiment
      pigeonhole submit --follow RUN_ID
      pigeonhole submit --stop RUN_ID
    """
    if sum(map(bool, (file, follow, stop))) != 1:
        raise InputError("there is not one thing to do: give a FILE, or --follow RUN_ID, or --stop RUN_ID")
    package, arguments = _read(file, task, parameter)
    run_id, result = follow or stop, dict[str, Any]()
    try:
        with _kubeflow(login) as kubeflow:
            from pipelines.kubeflow import submission

            if package:
                version = submission.upload(kubeflow, package)
                run_id = submission.start(kubeflow, version, arguments, experiment, service_account)
                result |= _summary(package, version)
            elif stop:
                submission.stop(kubeflow, stop)
            result |= {"run_id": run_id, "url": f"{login.host.rstrip('/')}/#/runs/details/{run_id}"}
            if wait or follow:
                _wait(kubeflow, run_id, timeout, result)
    finally:  # a run that was started is reported, whatever becomes of the waiting
        if "run_id" in result:
            show(result, format_)
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
    task: TaskOption = "",
    parameter: Parameters = None,
    pause: Annotated[bool, typer.Option("--pause", help="Let it start no runs.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Let it start runs again.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; runs that it started go on.")] = False,
    experiment: Experiment = "pigeonhole",
    service_account: ServiceAccount = "",
    *,
    login: LoginOptions,
    format_: FormatOption = None,
) -> None:
    """Run a compiled pipeline on Kubeflow again and again.

    NAME is known by its namespace: the same call twice leaves one schedule, a call with anything changed replaces it,
    and one that is paused stays paused. Prints change (created, replaced, unchanged, paused, resumed, deleted) and
    more.

    Examples:
      pigeonhole schedule nightly build/ir/training.yaml --cron "0 0 3 * * *" -p bundle_root=s3://models/news
      pigeonhole schedule nightly --pause
      pigeonhole schedule nightly --resume
      pigeonhole schedule nightly --delete
    """
    if sum((bool(file), pause, resume, delete)) != 1 or bool(file) != bool(cron):
        raise InputError("there is not one thing to do: give FILE and --cron, or --pause, or --resume, or --delete")
    package, arguments = _read(file, task, parameter)
    from pipelines.kubeflow import schedule as schedules

    wanted = package and schedules.Schedule(name, cron, package.version, arguments, experiment, service_account)
    with _kubeflow(login) as kubeflow:
        from pipelines.kubeflow.submission import upload

        result: dict[str, Any] = {}
        if package and wanted:
            version = upload(kubeflow, package)
            standing = schedules.put(kubeflow, wanted, version)
            result = {"cron": cron, **_summary(package, version)}
        elif delete:
            standing = schedules.delete(kubeflow, name)
        else:
            standing = schedules.pause(kubeflow, name, paused=pause)
    summary = {"schedule": name, "change": standing.change, "recurring_run_id": standing.recurring_run_id}
    show({**summary, "paused": standing.paused, **result}, format_)
    if package and standing.paused:
        print(f"pigeonhole: {name} is paused: start it with pigeonhole schedule {name} --resume", file=sys.stderr)


def _read(file: Path | None, task: str, assignments: list[str] | None) -> "tuple[Package | None, dict[str, Any]]":
    if not file:
        if assignments or task:
            raise InputError(f"--{'parameter' if assignments else 'task'} belongs to what will run: give the FILE, too")
        return None, {}
    from pipelines.kubeflow.package import read_package

    package = read_package(file)
    given = package.arguments(assignments or [])
    if not task:
        return package, given
    from components.tasks.task import load_task

    return package, {**load_task(task).parameters(), **given}


@contextmanager
def _kubeflow(login: LoginOptions) -> "Iterator[Kubeflow]":
    """Yield the server, once it has answered."""
    from pipelines.kubeflow.client import connect

    with redirect_stdout(sys.stderr):  # kfp prints where to look
        yield connect(login.checked())


def _wait(kubeflow: "Kubeflow", run_id: str, timeout: float, result: dict[str, Any]) -> None:
    """Wait, and put the run's end into the result; SIGTERM and Ctrl-C end the waiting, not the run."""
    from pipelines.kubeflow.submission import Polling, failures, how_to_go_on
    from pipelines.kubeflow.submission import wait as wait_for
    from pipelines.running.stopping import Stopped, signals_stop_children

    try:
        with signals_stop_children():
            run = wait_for(kubeflow, run_id, Polling(timeout))
    except Stopped as stop:
        print(f"pigeonhole: {stop.signal} ended the waiting; {how_to_go_on(run_id)}", file=sys.stderr)
        raise
    result["state"] = run.state
    result["failed_tasks"] = failures(run)
    result["error"] = one_line(run.error.message or "", most=300) if run.error else ""


def _summary(package: "Package", version: "Version") -> dict[str, Any]:
    return {
        "pipeline": package.pipeline,
        "version": version.name,
        "digest": package.digest,
        "uploaded": version.uploaded,
    }
