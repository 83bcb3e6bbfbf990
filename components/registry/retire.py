"""Taking a version out of use."""

import time

from mlflow import MlflowClient

from components.platform.storage import remove
from components.registry.promotion import challenge, promotions
from components.registry.versions import BUNDLE_DELETED, CHAMPION, RETIRED, Version, timestamp, version_named, versions
from predictor.errors import InputError
from predictor.model.bundle import SPEC_FILE


def retire(client: MlflowClient, version: Version) -> None:
    """Mark a version as retired: it loses `@challenger`, and nobody promotes it by mistake. Its bundle stays.

    Raises:
        InputError: it is the champion.
    """
    _check_not_champion(version)
    number = str(version.number)
    client.set_model_version_tag(version.name, number, RETIRED, timestamp(time.time()))
    now = version_named(client, version.name, number)
    if CHAMPION in now.aliases:  # promoted at this moment, before it was marked
        client.delete_model_version_tag(version.name, number, RETIRED)
        _check_not_champion(now)
    challenge(client, version.name)


def why_in_use(client: MlflowClient, version: Version) -> str:
    """Return why a version's bundle is still needed, as far as MLflow knows; empty where it is not.

    It is where the version is the champion, where a service was promoted to it and to no other since, and where another
    version has the same bundle.
    """
    listed = versions(client, version.name)
    current = next((each for each in listed if each.number == version.number), version)
    if CHAMPION in current.aliases:
        return f"version {version.number} is @{CHAMPION}"
    last = {promotion.where: promotion.number for promotion in promotions(listed)}
    for where, number in last.items():
        if number == version.number and where.startswith("service "):
            return f"{where} was last promoted to version {number}"
    for other in listed:
        if other.number != version.number and other.uri == version.uri and not other.retired:
            return f"version {other.number} has the same bundle"
    return ""


def delete_bundle(client: MlflowClient, version: Version) -> None:
    """Delete a retired version's bundle from storage; the same call again finishes one that was cut short.

    `serving.json` goes first, so that what a kill leaves is no bundle.

    Raises:
        InputError: it is in use, its address is not that of a bundle, or the storage cannot be written.
    """
    if reason := why_in_use(client, version):
        raise InputError(f"the bundle of version {version.number} stays, since {reason}: retire it without its bundle")
    if not version.digest or version.uri.rstrip("/").rpartition("/")[2] != version.digest[:12]:
        raise InputError(
            f"version {version.number} has the address {version.uri or 'none'}, which does not end in its bundle's "
            "digest, so nothing is deleted there: look at the version's tags"
        )
    remove(f"{version.uri}/{SPEC_FILE}")
    remove(version.uri)
    client.set_model_version_tag(version.name, str(version.number), BUNDLE_DELETED, timestamp(time.time()))


def _check_not_champion(version: Version) -> None:
    if CHAMPION in version.aliases:
        raise InputError(
            f"version {version.number} of {version.name} is @{CHAMPION}: promote another one first, then retire it"
        )
