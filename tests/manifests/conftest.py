"""What kustomize makes of the overlays, as users get it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache

import pytest
import yaml

from tests.conftest import ROOT
from tests.fakes.kserve import Object

OVERLAYS = sorted(folder.name for folder in (ROOT / "kustomize/overlays").iterdir())
STANDARD_OVERLAYS = ["production", "standard"]
Render = Callable[[str], list[Object]]


@pytest.fixture(scope="session")
def render(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Renders an overlay, and one with components on top by a name such as `standard+keda`."""
    kustomize = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    if not shutil.which(kustomize[0]):
        pytest.skip("neither kubectl nor kustomize is installed")

    @cache
    def rendered(name: str) -> list[Object]:
        overlay, *components = name.split("+")
        folder = ROOT / "kustomize/overlays" / overlay
        if components:
            top = tmp_path_factory.mktemp("overlay")
            document = {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [os.path.relpath(folder, top)],
                "components": [os.path.relpath(ROOT / "kustomize/components" / part, top) for part in components],
            }
            (top / "kustomization.yaml").write_text(yaml.safe_dump(document))
            folder = top
        done = subprocess.run([*kustomize, str(folder)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr  # kustomize warns of fields that will go
        return list(yaml.safe_load_all(done.stdout))

    return rendered


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]
