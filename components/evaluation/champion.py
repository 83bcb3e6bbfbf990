"""The champion's bundle, for a test on today's rows."""

from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from components.platform.storage import download, is_remote
from components.registry.versions import BUNDLE_URI, champion_of
from predictor.errors import InputError
from predictor.model.bundle import Bundle


@dataclass(frozen=True)
class ChampionBundle:
    """The champion as the registry knows it."""

    version: str
    digest: str
    path: Path | None
    """Its bundle on this machine, or None."""
    missing: str = ""
    """Why there is none."""


def fetch_champion(client: MlflowClient, name: str, folder: Path) -> ChampionBundle | None:
    """Return the champion of a registered model, its bundle fetched into a folder; None if there is no champion.

    Args:
        client: of MLflow.
        name: of the registered model.
        folder: where a bundle from object storage goes.
    """
    version = champion_of(client, name)
    if version is None:
        return None
    number, uri = str(version.number), version.uri
    if not uri:
        return ChampionBundle(number, version.digest, None, f"its version has no tag {BUNDLE_URI}")
    try:
        path = download(uri, folder) if is_remote(uri) else Path(uri)
        found = Bundle.open(path)
    except InputError as error:
        return ChampionBundle(number, version.digest, None, str(error))
    if version.digest and found.digest != version.digest:
        return ChampionBundle(number, version.digest, None, f"{uri} holds another bundle, {found.digest[:12]}")
    return ChampionBundle(number, version.digest, path)
