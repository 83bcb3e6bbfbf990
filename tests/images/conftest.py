"""A container engine with the images in it: one that answers, else that of the tools folder, else a skip."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from predictor import __version__

Image = Callable[[str], str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.images)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    script = Path(os.environ.get("PIGEONHOLE_TOOLS", ".")) / "containers/dockerd.sh"
    # Docker's own program is asked, since the library's client leaves its socket open where nobody answers.
    missing = not shutil.which("docker") or bool(subprocess.run(["docker", "info"], capture_output=True).returncode)
    if missing:
        if not script.is_file() or os.geteuid():
            pytest.skip("no container engine answers: start Docker")
        subprocess.run(["sh", str(script), "start"], check=True, capture_output=True)
    client = docker.from_env()
    yield client
    client.close()
    if missing:
        subprocess.run(["sh", str(script), "stop"], check=True, capture_output=True)


@pytest.fixture(scope="session")
def image(engine: docker.DockerClient) -> Image:
    """The full name of an image that make images built."""

    def named(name: str) -> str:
        full = f"{os.environ.get('IMAGE_PREFIX', 'pigeonhole')}/{name}:{os.environ.get('TAG', __version__)}"
        try:
            engine.images.get(full)
        except ImageNotFound:
            pytest.skip(f"there is no image {full}: make images builds it")
        return full

    return named
