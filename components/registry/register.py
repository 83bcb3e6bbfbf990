"""Registering: the bundle goes to storage under its digest, its address onto a model version."""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem
from mlflow.exceptions import MlflowException

from components.progress import say
from components.registry.tracking import StepRun
from components.staging import upload
from predictor.bundle import SPEC_FILE, Bundle

CHALLENGER, CHAMPION = "challenger", "champion"


@dataclass(frozen=True)
class Registered:
    """Where the bundle went."""

    uri: str
    digest: str
    version: str


def store(bundle: Bundle, root: str) -> str:
    """Copy a bundle to `ROOT/DIGEST` (the first 12 digits) and return that address.

    A bundle that is already there is left alone. On a local disk it is written aside and renamed into place; in an
    object store `serving.json`, without which a folder is no bundle, goes last.

    Args:
        bundle: what to store.
        root: a local folder or an fsspec URI such as `s3://models/news`.
    """
    files, base = fsspec.core.url_to_fs(root)
    target = f"{base.rstrip('/')}/{bundle.digest[:12]}"
    if not files.exists(f"{target}/{SPEC_FILE}"):
        if isinstance(files, LocalFileSystem):
            _store_local(bundle, Path(target))
        else:
            upload(bundle.path, str(files.unstrip_protocol(target)), last=SPEC_FILE)
    return target if isinstance(files, LocalFileSystem) else str(files.unstrip_protocol(target))


def _store_local(bundle: Bundle, target: Path) -> None:
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        shutil.copytree(bundle.path, aside)
        shutil.rmtree(target, ignore_errors=True)  # only ever a copy that was cut short
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
    client.set_registered_model_alias(name, CHALLENGER, version)
    if passed:
        client.set_registered_model_alias(name, CHAMPION, version)
    say(f"registered {name} version {version}, @{CHAMPION if passed else CHALLENGER}: {uri}")
    return Registered(uri, bundle.digest, str(version))
