"""The versions of a registered model, as MLflow has them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from predictor.errors import InputError

CHALLENGER, CHAMPION = "challenger", "champion"

# Tags of a version.
BUNDLE_URI, BUNDLE_DIGEST, DATA_DIGEST = "bundle_uri", "bundle_digest", "data_digest"
GIT_COMMIT, PARENT, ACCURACY, PRECISION = "git_commit", "parent_version", "accuracy", "precision"
GATE, GATE_REASONS, ROLLOUT, ROLLOUT_REASONS = "gate", "gate_reasons", "rollout", "rollout_reasons"
RETIRED, BUNDLE_DELETED = "retired", "bundle_deleted"
PROMOTED = "promoted "
"""The beginning of a tag's name, which a time follows."""
PASSED, CLOSED = "passed", "closed"
_DIGEST = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True)
class Promotion:
    """That a version became the one in service."""

    at: str
    """When, as `timestamp` writes it, so that a later one sorts after an earlier one."""
    number: int
    where: str
    """The service that got it, or why there was none."""

    @property
    def seconds(self) -> float:
        """When, in Unix seconds."""
        return datetime.fromisoformat(self.at).timestamp()


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    """Of the model."""
    number: int
    created: float
    """Unix seconds."""
    run_id: str
    """The pipeline's run."""
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """The address of the bundle."""
        return self.tags.get(BUNDLE_URI, "")

    @property
    def digest(self) -> str:
        """The SHA-256 that names the bundle."""
        return self.tags.get(BUNDLE_DIGEST, "")

    @property
    def passed(self) -> bool:
        """Whether it passed the gate."""
        return self.tags.get(GATE) == PASSED

    @property
    def retired(self) -> bool:
        """Whether it was taken out of use."""
        return RETIRED in self.tags

    @property
    def promotions(self) -> list[Promotion]:
        """When it became the one in service, earliest first; a version may return."""
        marks = sorted((key, where) for key, where in self.tags.items() if key.startswith(PROMOTED))
        return [Promotion(key.removeprefix(PROMOTED), self.number, where) for key, where in marks]


def timestamp(seconds: float) -> str:
    """Return Unix seconds as ISO 8601 in UTC with microseconds; such texts sort as the times do."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def versions(client: MlflowClient, name: str) -> list[Version]:
    """Return all versions of a model with their aliases, newest first.

    Raises:
        InputError: there is no such model.
    """
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        others = ", ".join(model_names(client)) or "none so far"
        raise InputError(f"MLflow has no model {name}: give --name, one of {others}") from error
    found = [_version(entity, aliases) for entity in _search(client, f"name = '{name}'")]
    return sorted(found, key=lambda version: version.number, reverse=True)


def model_names(client: MlflowClient) -> list[str]:
    """Return the names of all registered models."""
    names: list[str] = []
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        names += [model.name for model in page]
        token = page.token
        if not token:
            return names


def only_model(client: MlflowClient) -> str:
    """Return the name of the only registered model.

    Raises:
        InputError: there is none, or there are several.
    """
    names = model_names(client)
    if not names:
        raise InputError("MLflow has no registered model: train one first, or name another MLflow")
    if len(names) > 1:
        raise InputError(f"MLflow has several models ({', '.join(names)}): name one of them")
    return names[0]


def version_named(client: MlflowClient, name: str, given: str) -> Version:
    """Return the version that a person names: by number, alias (`@champion`), or the first 12 digits of its digest.

    Raises:
        InputError: there is none.
    """
    listed = versions(client, name)
    wanted = given.removeprefix("@")
    for version in listed:
        by_digest = _DIGEST.fullmatch(wanted) and version.digest.startswith(wanted)
        if wanted == str(version.number) or wanted in version.aliases or by_digest:
            return version
    newest = f"the newest is {listed[0].number}" if listed else "it has none"
    raise InputError(f"model {name} has no version {given}: see pigeonhole models list; {newest}")


def champion_of(client: MlflowClient, name: str) -> Version | None:
    """Return the version with the alias `@champion`; None if there is none, or no such model."""
    try:
        entity = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no model; no such alias
            return None
        raise
    return _version(entity, {CHAMPION: entity.version})


def version_of_bundle(client: MlflowClient, digest: str) -> Version | None:
    """Return the newest version that holds a bundle, of any model; None where no version does.

    Args:
        client: MLflow.
        digest: the bundle's, or its first digits.
    """
    if not _DIGEST.fullmatch(digest):  # it goes into a query
        return None
    found = _search(client, f"tags.{BUNDLE_DIGEST} LIKE '{digest}%'")
    newest = max(found, key=lambda entity: entity.creation_timestamp, default=None)
    return _version(newest, {}) if newest else None


def version_of_run(client: MlflowClient, name: str, run_id: str, digest: str) -> Version | None:
    """Return the version that a pipeline's run has registered already for a bundle, if any."""
    found = [_version(entity, {}) for entity in _search(client, f"run_id = '{run_id}'")]
    return next((version for version in found if (version.name, version.digest) == (name, digest)), None)


def _search(client: MlflowClient, query: str) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(query, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _version(entity: ModelVersion, aliases: Mapping[str, str | int]) -> Version:
    number = int(entity.version)
    own = tuple(sorted(alias for alias, version in aliases.items() if int(version) == number))
    return Version(
        entity.name, number, entity.creation_timestamp / 1000, str(entity.run_id or ""), dict(entity.tags), own
    )
