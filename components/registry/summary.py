"""A version, a list of versions, and the difference of two, as commands print them."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.platform.storage import read_text
from components.registry.versions import (
    ACCURACY,
    BUNDLE_DELETED,
    DATA_DIGEST,
    GATE,
    GATE_REASONS,
    GIT_COMMIT,
    PARENT,
    PRECISION,
    RETIRED,
    ROLLOUT,
    ROLLOUT_REASONS,
    Version,
)
from predictor.errors import InputError
from predictor.model.bundle import SPEC_FILE

_SHORT = 12
_LONGEST = 80
_APART = ("metrics", "files", "reference", "data_digest")
"""Parts of serving.json that a difference shows elsewhere, or that are too long to be read."""
_COMPARED = (GATE, ROLLOUT, DATA_DIGEST, GIT_COMMIT, PRECISION, PARENT)
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def row(version: Version) -> dict[str, Any]:
    """Return the line of a list: number, aliases, accuracy, verdicts, digests, age."""
    return {
        "version": version.number,
        "aliases": list(version.aliases),
        "accuracy": _accuracy(version),
        "gate": version.tags.get(GATE),
        "rollout": version.tags.get(ROLLOUT),
        "retired": version.retired,
        "digest": version.digest[:_SHORT],
        "parent": version.tags.get(PARENT),
        "age": _age(version.created),
        "created": _time(version.created),
    }


def details(client: MlflowClient, version: Version) -> dict[str, Any]:
    """Return all that MLflow has of a version, with parameters and metrics of its run."""
    tags = version.tags
    parameters, metrics = _run(client, version)
    return {
        "model": version.name,
        **row(version),
        "gate_reasons": tags.get(GATE_REASONS, "").splitlines(),
        "rollout_reasons": tags.get(ROLLOUT_REASONS),
        "promotions": [{"at": promotion.at, "where": promotion.where} for promotion in version.promotions],
        "bundle": version.uri,
        "digest": version.digest,
        "data_digest": tags.get(DATA_DIGEST),
        "git_commit": tags.get(GIT_COMMIT),
        "precision": tags.get(PRECISION),
        "retired": tags.get(RETIRED),
        "bundle_deleted": tags.get(BUNDLE_DELETED),
        "run": version.run_id,
        "parameters": parameters,
        "metrics": metrics,
    }


def difference(client: MlflowClient, one: Version, two: Version) -> dict[str, Any]:
    """Return in what two versions differ.

    Returns:
        Rows of `name`, `from` and `to` for the versions' tags, the hyper-parameters, the metrics (with `change`) and
        `serving.json`; rows of `file` and `change` for the bundles' files; notes on what could not be compared.
    """
    (parameters, metrics), (parameters2, metrics2) = _run(client, one), _run(client, two)
    (spec, missing), (spec2, missing2) = _spec(one), _spec(two)
    both = bool(spec and spec2)
    metrics, metrics2 = {**spec.get("metrics", {}), **metrics}, {**spec2.get("metrics", {}), **metrics2}
    serving = [_flat({k: v for k, v in each.items() if k not in _APART}) for each in (spec, spec2)]
    tags = [{name: version.tags.get(name) for name in _COMPARED} for version in (one, two)]
    return {
        "model": one.name,
        "from": one.number,
        "to": two.number,
        "same_bundle": one.digest == two.digest,
        "version": _changed(*tags),
        "hyperparameters": _changed(parameters, parameters2),
        "metrics": [
            {**change, "change": _subtract(change["to"], change["from"])} for change in _changed(metrics, metrics2)
        ],
        "serving": _changed(*serving) if both else [],
        "files": _changed_files(spec.get("files", {}), spec2.get("files", {})) if both else [],
        "notes": [note for note in (missing, missing2) if note],
    }


def _run(client: MlflowClient, version: Version) -> tuple[dict[str, str], dict[str, float]]:
    """Return the parameters and metrics of a version's run; nothing where the run was deleted for good."""
    try:
        data = client.get_run(version.run_id).data
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return {}, {}
    metrics = {name: value for name, value in data.metrics.items() if not name.startswith("system/")}
    return dict(sorted(data.params.items())), dict(sorted(metrics.items()))


def _spec(version: Version) -> tuple[dict[str, Any], str]:
    """Return a bundle's serving.json, or nothing and the reason."""
    try:
        content = read_text(f"{version.uri}/{SPEC_FILE}") if version.uri else ""
        spec = json.loads(content) if content else {}
    except (InputError, ValueError) as error:
        return {}, f"version {version.number}: {error}"
    if not isinstance(spec, dict) or not spec:
        return {}, f"version {version.number}: there is no bundle at {version.uri or 'its address'} any more"
    return spec, ""


def _changed(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = [*one, *(name for name in two if name not in one)]
    return [
        {"name": name, "from": one.get(name), "to": two.get(name)} for name in names if one.get(name) != two.get(name)
    ]


def _changed_files(one: Mapping[str, str], two: Mapping[str, str]) -> list[dict[str, str]]:
    said = {(True, False): "removed", (False, True): "added", (True, True): "changed"}
    names = sorted(name for name in {*one, *two} if one.get(name) != two.get(name))
    return [{"file": name, "change": said[name in one, name in two]} for name in names]


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by their path; what is too long to be read as its size and digest."""
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and name not in _APART:
            flat |= _flat(inner, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = _short(inner) if isinstance(inner, (Mapping, list)) else inner
    return flat


def _short(value: Mapping[str, Any] | Sequence[Any]) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= _LONGEST:
        return text
    return f"{len(value)} entries, SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:_SHORT]}"


def _subtract(one: float | None, two: float | None) -> float | None:
    return None if one is None or two is None else one - two


def _accuracy(version: Version) -> float | None:
    try:
        return float(version.tags[ACCURACY])
    except (KeyError, ValueError):
        return None


def _age(created: float) -> str:
    seconds = max(int(time.time() - created), 0)
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= size), _UNITS[-1])
    return f"{seconds // size} {unit}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
