"""A pipeline run in containers, with no network, gives what the same run gives in processes."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import docker
import numpy as np
import pytest
from kfp import local
from kfp.local import docker_task_handler

from components import STEPS_IMAGE
from pipelines.training import training
from predictor.model.classifier import Classifier
from tests.conftest import toy_frame
from tests.images.conftest import Image

# One thread, so that sums are added up in one order.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}


def _run_to_the_end(client: docker.DockerClient, image: str, command: list[str], volumes: Any, **more: Any) -> int:
    """Run a step's container and return its exit code.

    kfp 2.17 lets the engine remove the container by itself, and takes one that is gone too soon for a success.
    """
    container = client.containers.create(image, command, volumes=volumes, **more)
    try:
        container.start()
        code = int(container.wait()["StatusCode"])
        sys.stdout.write(container.logs().decode(errors="replace"))
        return code
    finally:
        container.remove(force=True)


def _train(runner: Any, root: Path, name: str) -> dict[str, Any]:
    out = root / name
    out.mkdir()
    local.init(runner, pipeline_root=str(root), raise_on_error=True)
    task = training(
        bundle_root=str(out / "bundles"), mlflow_tracking_uri=f"sqlite:///{out}/mlflow.db", data=str(root / "data"),
        name="toy", backbone=str(root / "backbone"), min_accuracy=0.5, max_length=64, seed=7,
    )  # fmt: skip
    return dict(task.outputs)


@pytest.mark.filterwarnings("ignore")  # kfp warns of settings that only a cluster heeds
def test_containers_and_processes_make_the_same(
    engine: docker.DockerClient, image: Image, data_folder: Path, backbone: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert image("steps-python") == STEPS_IMAGE
    for source, name in ((data_folder, "data"), (backbone, "backbone")):
        shutil.copytree(source, tmp_path / name)
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(docker_task_handler, "run_docker_container", _run_to_the_end)
    contained = _train(
        local.DockerRunner(
            network_mode="none", user=f"{os.getuid()}:{os.getgid()}", read_only=True, tmpfs={"/tmp": ""},
            cap_drop=["ALL"], environment=_ENVIRONMENT,
        ),
        tmp_path, "containers",
    )  # fmt: skip
    processes = _train(local.SubprocessRunner(use_venv=False), tmp_path, "processes")

    for name in ("data_digest", "accuracy", "baseline_accuracy", "precision", "passed"):
        assert contained[name] == processes[name], name
    texts = toy_frame(30, 9)["text"].tolist()
    ours, theirs = (_probabilities(Path(outputs["bundle_uri"]), texts) for outputs in (contained, processes))
    np.testing.assert_array_equal(ours, theirs)


def _probabilities(bundle: Path, texts: list[str]) -> Any:
    classifier = Classifier(bundle)
    try:
        return classifier.probabilities(texts)
    finally:
        classifier.close()
