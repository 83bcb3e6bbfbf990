"""The commands of the registry: `pigeonhole models ...`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.platform.quiet import quiet_mlflow
from pipelines.cli.base.commands import Commands
from pipelines.cli.base.options import FormatOption
from pipelines.cli.base.output import show
from predictor.errors import InputError

if TYPE_CHECKING:  # which imports MLflow
    from mlflow import MlflowClient

app = Commands(help="List, compare, promote and retire the versions of a model in MLflow.", add_completion=False)

_DATABASE = "mlflow.db"
_SQLITE = "sqlite:///"
_TRIES_VARIABLE, _TRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"
"""MLflow's own number makes a person wait for minutes when the server is away."""

VersionArgument = Annotated[str, typer.Argument(help="Number, @ALIAS, or the first 12 digits of the bundle's digest.")]
NamespaceOption = Annotated[
    str, typer.Option("--namespace", "-n", envvar="PIGEONHOLE_NAMESPACE", help="Where InferenceServices are.")
]


@dataclass(frozen=True)
class Registry:
    """Which model of which MLflow."""

    out: Annotated[Path | None, typer.Option(help="A folder of `pigeonhole run`, whose MLflow database is meant.")] = (
        None
    )
    mlflow_tracking_uri: Annotated[
        str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="The MLflow server, where --out names no folder.")
    ] = ""
    name: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_NAME", help="The registered model.  [default: the only one]")
    ] = ""


@app.command("list")
def list_(registry: Registry, format_: FormatOption = None) -> None:
    """List the versions of a model, newest first.

    Prints number, aliases, test accuracy, the verdicts of gate and rollout, digest, parent and age of each. The parent
    is the version that was @champion when this one was registered.

    Examples:
      pigeonhole models list --out out/news
      pigeonhole models list --mlflow-tracking-uri http://mlflow:5000 --name news -o json
    """
    with _opened(registry) as (client, name):
        from components.registry.summary import row
        from components.registry.versions import versions

        result = {"model": name, "versions": [row(version) for version in versions(client, name)]}
    show(result, format_)


@app.command("show")
def show_(version: VersionArgument, registry: Registry, format_: FormatOption = None) -> None:
    """Show one version: where its bundle is, its verdicts with their reasons, parameters, metrics, promotions.

    Examples:
      pigeonhole models show @champion --out out/news
      pigeonhole models show 7 --name news
    """
    with _opened(registry) as (client, name):
        from components.registry.summary import details
        from components.registry.versions import version_named

        result = details(client, version_named(client, name, version))
    show(result, format_)


@app.command()
def diff(
    before: VersionArgument,
    after: VersionArgument,
    registry: Registry,
    format_: FormatOption = None,
) -> None:
    """Say in what two versions differ: data, hyper-parameters, metrics, serving.json, files of the bundles.

    Example:
      pigeonhole models diff @champion @challenger --out out/news
    """
    with _opened(registry) as (client, name):
        from components.registry.summary import difference
        from components.registry.versions import version_named

        result = difference(client, version_named(client, name, before), version_named(client, name, after))
    show(result, format_)


@app.command()
def promote(
    version: VersionArgument,
    registry: Registry,
    service: Annotated[
        str, typer.Option(help="The InferenceService that serves it, for the record; nothing is started there.")
    ] = "",
    namespace: NamespaceOption = "",
    format_: FormatOption = None,
) -> None:
    """Point @champion to a version: in MLflow alone.

    For a version that was put into service in another way than by `pigeonhole rollout` or a pipeline with a service,
    which move the alias themselves. No traffic moves. A version that the gate refused, that is retired, or whose bundle
    is gone is no champion.

    Examples:
      pigeonhole models promote 7 --name news
      pigeonhole models promote 7 --name news --service news --namespace team-a
    """
    if service and not namespace:
        raise InputError(f"--service {service} is in no namespace: give --namespace, too")
    with _opened(registry) as (client, name):
        from components.registry.promotion import promote_now
        from components.registry.versions import version_named
        from components.rollout.versions import check_bundle, version_at

        found = version_named(client, name, version)
        if not found.passed:
            raise InputError(f"version {found.number} of {name} did not pass the gate: promote one that did")
        if found.retired:
            raise InputError(f"version {found.number} of {name} is retired: promote another one, or train again")
        check_bundle(version_at(found.uri))
        where = f"service {namespace}/{service}" if service else "by hand"
        champion = promote_now(client, name, found.number, where)
    show({"model": name, "version": found.number, "champion": champion, "where": where, "bundle": found.uri}, format_)
    if champion != found.number:  # another promotion came at this moment
        raise typer.Exit(1)


@app.command()
def retire(
    version: VersionArgument,
    registry: Registry,
    delete_bundle: Annotated[
        bool, typer.Option("--delete-bundle", help="Delete its bundle from storage, too, unless it is in use.")
    ] = False,
    namespace: NamespaceOption = "",
    format_: FormatOption = None,
) -> None:
    """Take a version out of use: it loses @challenger, and its bundle stays where it is.

    The champion is never retired. --delete-bundle keeps a bundle that another version has, or that a service was last
    promoted to as far as MLflow knows; with --namespace the InferenceServices there are asked, too.

    Examples:
      pigeonhole models retire 4 --name news
      pigeonhole models retire 4 --name news --delete-bundle --namespace team-a
    """
    with _opened(registry) as (client, name):
        from components.registry import retire as retiring
        from components.registry.versions import version_named

        found = version_named(client, name, version)
        if delete_bundle and namespace:
            _check_unused(namespace, found.uri)
        if delete_bundle and (reason := retiring.why_in_use(client, found)):
            raise InputError(f"version {found.number} of {name} cannot lose its bundle: {reason}")
        retiring.retire(client, found)
        if delete_bundle:
            retiring.delete_bundle(client, found)
    result = {"model": name, "version": found.number, "bundle": found.uri, "bundle_deleted": delete_bundle}
    show({**result, "services_asked": bool(delete_bundle and namespace)}, format_)


def _check_unused(namespace: str, uri: str) -> None:
    from components.platform.kubernetes import connect
    from components.rollout.versions import services_with

    if users := services_with(connect(namespace), uri):
        raise InputError(f"{', '.join(users)} in namespace {namespace} serves {uri}: roll another version out first")


@contextmanager
def _opened(registry: Registry) -> Iterator[tuple["MlflowClient", str]]:
    """Yield MLflow and the model's name; what is printed inside goes to stderr."""
    uri = _address(registry)
    os.environ.setdefault(_TRIES_VARIABLE, _TRIES)
    with redirect_stdout(sys.stderr), quiet_mlflow():
        from components.platform.tracking import mlflow_client
        from components.registry.versions import only_model

        with mlflow_client(uri) as client:
            yield client, registry.name or only_model(client)


def _address(registry: Registry) -> str:
    uri = f"{_SQLITE}{registry.out.resolve() / _DATABASE}" if registry.out else registry.mlflow_tracking_uri
    if not uri:
        raise InputError("no MLflow is named: give --out FOLDER or --mlflow-tracking-uri, or set MLFLOW_TRACKING_URI")
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).is_file():  # MLflow would make an empty one
        raise InputError(f"there is no database {uri.removeprefix(_SQLITE)}: name the folder of a run, or a server")
    return uri
