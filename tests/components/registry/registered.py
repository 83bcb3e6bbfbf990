"""Versions in a registry, with bundles that are small enough to be made by the hundred."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from components.registry.versions import versions


def add(
    client: MlflowClient, name: str = "toy", gate: str = "passed", uri: str = "", run: str | None = None, **tags: str
) -> int:
    """Register a version and return its number."""
    with suppress(MlflowException):  # it is there
        client.create_registered_model(name)
    tags = {"gate": gate, "bundle_uri": uri, "bundle_digest": digest(uri), **tags}
    made = client.get_run(run) if run else client.create_run("0")  # a server takes only a run's own place for artifacts
    return int(client.create_model_version(name, str(made.info.artifact_uri), made.info.run_id, tags=tags).version)


def digest(uri: str) -> str:
    """Return the digest of the bundle at an address, as far as the address tells it where no bundle is."""
    file = Path(uri) / "serving.json"
    return hashlib.sha256(file.read_bytes() if uri and file.exists() else uri.encode()).hexdigest()


def bundle(root: Path, files: dict[str, str] | None = None, **spec: Any) -> str:
    """Make a folder with a `serving.json` and the files it lists, and return its address, which ends in its digest."""
    files = files or {"config.json": "{}"}
    listed = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    raw = json.dumps({**spec, "files": listed}).encode()
    folder = root / hashlib.sha256(raw).hexdigest()[:12]
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "serving.json").write_bytes(raw)
    return str(folder)


def aliases(client: MlflowClient, name: str = "toy") -> dict[str, int]:
    """Return the version of each alias."""
    return {alias: version.number for version in versions(client, name) for alias in version.aliases}
