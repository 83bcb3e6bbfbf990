"""Registering: the bundle goes to storage under its digest, its address onto a model version."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem
from mlflow.exceptions import MlflowException

from components.platform.progress import say
from components.platform.storage import holds, storage_at, upload
from components.platform.tracking import StepRun, commit_of_code
from components.registry.promotion import challenge
from components.registry.versions import (
    ACCURACY,
    BUNDLE_DIGEST,
    BUNDLE_URI,
    CHALLENGER,
    CHAMPION,
    CLOSED,
    DATA_DIGEST,
    GATE,
    GATE_REASONS,
    GIT_COMMIT,
    PARENT,
    PASSED,
    PRECISION,
    version_of_run,
)
from predictor.errors import InputError
from predictor.files import whole
from predictor.model.bundle import SPEC_FILE, Bundle

NO_COMMIT, NO_PARENT = "unknown", "none"
_LONGEST_REASONS = 5000


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


def register(
    step: StepRun, bundle_path: Path, report: Path, passed: bool, root: str, name: str, reasons: Sequence[str] = ()
) -> Registered:
    """Store the bundle and register it as a version of the model `name`, which points to the pipeline's MLflow run.

    A version that passed the gate gets the alias `@challenger`; `@champion` moves when a canary was promoted. A version
    that did not pass gets no alias. The report goes to the pipeline's run. A step that is tried again finds the version
    that it registered.

    Args:
        step: the step's MLflow run.
        bundle_path: the finished bundle.
        report: a file.
        passed: whether the bundle passed the gate.
        root: the folder or URI that holds bundles.
        name: the model.
        reasons: the gate's, a sentence each.
    """
    bundle = Bundle.open(bundle_path)
    uri = store(bundle, root)
    tags = {
        BUNDLE_URI: uri,
        BUNDLE_DIGEST: bundle.digest,
        DATA_DIGEST: bundle.spec.data_digest,
        PRECISION: bundle.spec.precision,
        GATE: PASSED if passed else CLOSED,
    }
    step.headline(tags=tags)
    client, run = step.client, step.client.get_run(step.pipeline)
    client.log_artifact(run.info.run_id, str(report))
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = version_of_run(client, name, run.info.run_id, bundle.digest)
    if found:
        number = found.number
    else:
        tags |= {
            GATE_REASONS: "\n".join(reasons)[:_LONGEST_REASONS],
            ACCURACY: str(bundle.spec.metrics["test_accuracy"]),
            GIT_COMMIT: commit_of_code() or NO_COMMIT,
            PARENT: str(client.get_registered_model(name).aliases.get(CHAMPION, NO_PARENT)),
        }
        number = int(client.create_model_version(name, run.info.artifact_uri, run.info.run_id, tags=tags).version)
    if passed:
        challenge(client, name)
    alias = f"@{CHALLENGER}" if passed else "without an alias, since the gate stayed closed"
    say(f"registered {name} version {number}, {alias}: {uri}")
    return Registered(uri, bundle.digest, str(number))
