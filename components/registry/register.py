"""Registering: the bundle goes to storage under its digest, its address onto a model version."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.platform.progress import say
from components.platform.storage import holds, storage_at, upload
from components.platform.tracking import StepRun
from predictor.errors import InputError
from predictor.files import whole
from predictor.model.bundle import SPEC_FILE, Bundle

CHALLENGER, CHAMPION = "challenger", "champion"


@dataclass(frozen=True)
class Registered:
    """Where the bundle is stored, and its model version."""

    uri: str
    digest: str
    version: str


def store(bundle: Bundle, root: str) -> str:
    """Copy a bundle to `ROOT/DIGEST` (the first 12 digits) and return that address.

    A bundle that is already there, with the same content, is left alone. On a local disk it is written aside and
    renamed into place; in an object store `serving.json`, without which a folder is no bundle, goes last.

    Args:
        bundle: what to store.
        root: a local folder or an fsspec URI such as `s3://models/news`.

    Raises:
        InputError: the place cannot be written.
    """
    files, base = storage_at(root)
    local, target = isinstance(files, LocalFileSystem), f"{base.rstrip('/')}/{bundle.digest[:12]}"
    uri = target if local else str(files.unstrip_protocol(target))
    if not holds(uri, {SPEC_FILE: bundle.digest, **bundle.spec.files}):
        if local:
            _store_local(bundle, Path(target))
        else:
            upload(bundle.path, uri, last=SPEC_FILE)
    return uri


def _point(client: MlflowClient, name: str, alias: str, version: str) -> None:
    """Point an alias to a version. If two runs create the alias at the same moment, one of them has to try again."""
    try:
        client.set_registered_model_alias(name, alias, version)
    except MlflowException:
        client.set_registered_model_alias(name, alias, version)


def _store_local(bundle: Bundle, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as aside:  # replaces a copy that was cut short
            shutil.copytree(bundle.path, aside)
    except OSError as error:
        with suppress(InputError):
            if Bundle.open(target).digest == bundle.digest:
                return  # another run stored the same bundle meanwhile
        # copytree gathers what it could not copy, each with the source, the target and the reason.
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror
        raise InputError(f"{target} cannot be written ({reason}): make room there, or look at it") from error


def register(step: StepRun, bundle_path: Path, report: Path, passed: bool, root: str, name: str) -> Registered:
    """Store the bundle and register it as a version of the model `name`, which points to the pipeline's MLflow run.

    The version gets the alias `@challenger`, and `@champion` too when the gate passed. The report goes to the
    pipeline's run.
    """
    bundle = Bundle.open(bundle_path)
    uri = store(bundle, root)
    tags = {
        "bundle_uri": uri,
        "bundle_digest": bundle.digest,
        "data_digest": bundle.spec.data_digest,
        "precision": bundle.spec.precision,
        "gate": "passed" if passed else "closed",
    }
    step.headline(tags=tags)
    client, run = step.client, step.client.get_run(step.pipeline)
    client.log_artifact(run.info.run_id, str(report))
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(name, run.info.artifact_uri, run.info.run_id, tags=tags).version
    for alias in (CHALLENGER, CHAMPION) if passed else (CHALLENGER,):
        _point(client, name, alias, version)
    say(f"registered {name} version {version}, @{CHAMPION if passed else CHALLENGER}: {uri}")
    return Registered(uri, bundle.digest, str(version))
