"""An MLflow for each test, with the tables made once, and versions in it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from mlflow.server.constants import (
    ARTIFACT_ROOT_ENV_VAR,
    ARTIFACTS_DESTINATION_ENV_VAR,
    BACKEND_STORE_URI_ENV_VAR,
    SERVE_ARTIFACTS_ENV_VAR,
)
from mlflow.tracking import MlflowClient

from tests.ports import free_port


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables without rows; MLflow takes seconds to make them."""
    file = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_registered_models()
    return file


@pytest.fixture
def tracking(empty_database: Path, own_tracking: str) -> str:
    """The address of a database for one test."""
    shutil.copy(empty_database, own_tracking.removeprefix("sqlite:///"))
    return own_tracking


@pytest.fixture
def client(tracking: str) -> MlflowClient:
    return MlflowClient(tracking)


@pytest.fixture
def server(empty_database: Path, tmp_path: Path) -> Iterator[str]:
    """The address of MLflow's own server, run as `mlflow server` runs it, without the runner of jobs beside it."""
    shutil.copy(empty_database, tmp_path / "server.db")
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "uvicorn", "mlflow.server.fastapi_app:app", "--port", str(port)]
    stores = {
        BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{tmp_path}/server.db",
        ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        ARTIFACTS_DESTINATION_ENV_VAR: str(tmp_path / "artifacts"),
        SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **stores})
    try:
        for _ in range(2400):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            try:
                urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            except (URLError, ConnectionError):
                time.sleep(0.1)
        else:
            raise AssertionError((tmp_path / "server.log").read_text())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)
