"""A real API server: of the tools folder where there is one, else the user's own, else these tests are skipped."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config

from components.platform.kubernetes import Cluster

# Tools start one cluster on fixed ports, so two test runs on a machine take turns.
_LOCK = Path(tempfile.gettempdir()) / "pigeonhole-cluster.lock"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.cluster)
            # The tools' API server has signed its own certificate.
            item.add_marker(pytest.mark.filterwarnings("ignore:Unverified HTTPS request"))


@pytest.fixture(scope="session")
def tools() -> Path | None:
    """The folder that can start a cluster here."""
    folder = Path(os.environ.get("PIGEONHOLE_TOOLS", "."))
    wanted = [name for name in ("etcd", "kubectl", "openssl") if not shutil.which(name)]
    return folder if (folder / "k8s" / "cluster").is_file() and not wanted and os.geteuid() == 0 else None


@pytest.fixture(scope="session")
def kubeconfig(tools: Path | None) -> Iterator[Path]:
    if tools is None:
        own = os.environ.get("KUBECONFIG", "")
        if not own or not Path(own).is_file():
            pytest.skip(
                "no cluster: set KUBECONFIG, or PIGEONHOLE_TOOLS to a folder with k8s/cluster (root, etcd, kubectl)"
            )
        yield Path(own)
        return
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        script = str(tools / "k8s" / "cluster")
        started = subprocess.run([script, "up"], capture_output=True, text=True)
        try:
            assert started.returncode == 0, started.stderr
            file = Path(started.stdout.strip().splitlines()[-1])
            definitions = subprocess.run(
                [sys.executable, str(tools / "k8s" / "crds.py")], capture_output=True, check=True
            )
            kubectl = ["kubectl", "--kubeconfig", str(file)]
            apply = [*kubectl, "apply", "--server-side", "-f", "-"]
            subprocess.run(apply, input=definitions.stdout, check=True, capture_output=True)
            established = [*kubectl, "wait", "--for=condition=Established", "--timeout=10s", "crd", "--all"]
            while subprocess.run(established, capture_output=True).returncode:  # also while one has no condition at all
                time.sleep(0.5)
            yield file
        finally:
            subprocess.run([script, "down"], check=True, capture_output=True)


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Iterator[client.ApiClient]:
    settings = client.Configuration()
    config.load_kube_config(str(kubeconfig), client_configuration=settings)
    with client.ApiClient(settings) as connection:
        yield connection


@pytest.fixture
def cluster(api: client.ApiClient) -> Iterator[Cluster]:
    """The cluster, with a namespace that lives for one test."""
    core, name = client.CoreV1Api(api), f"test-{uuid.uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": name}})
    yield Cluster(client.CustomObjectsApi(api), name)
    core.delete_namespace(name)
