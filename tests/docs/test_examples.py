"""The examples work: the client against a server, the task's rows and service, the overlay."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.data.behaviour.lines import check_labels, read_behaviour
from components.data.collect import collect_frames
from components.data.prepare import prepare
from components.data.preparing.settings import Classes
from components.evaluation.thresholds import Thresholds
from components.tasks.task import load_task
from tests.conftest import ROOT
from tests.docs.pages import blocks
from tests.docs.shell import heredocs
from tests.fakes.kserve import Object, workloads
from tests.fakes.predictor import Fake, serving
from tests.pod_security import violations

EXAMPLES = ROOT / "examples"


def test_the_client_labels_each_line() -> None:
    fake, texts = Fake(), [f"text {number}" for number in range(70)]  # more than one batch
    with serving(fake) as url:
        done = subprocess.run(
            [sys.executable, EXAMPLES / "client.py", url], input="\n".join(texts), capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{text.upper()}\t0.500\t{text}" for text in texts]
    assert len(fake.asked) > 1 and set(fake.paths) == {"/v2/models/classifier/infer"}


def test_the_tasks_rows_can_be_trained_on() -> None:
    task = load_task(str(EXAMPLES / "own_task/task.toml"))
    check_labels(read_behaviour(Path(task.behaviour)), task.labels)
    Thresholds.named(task.gate)
    dataset = prepare(collect_frames(task.data), seed=42, classes=Classes(task.labels, task.ordinal))
    assert dataset.labels == ["billing", "bug", "question"]
    assert len(dataset.test) == 15
    assert not dataset.report["rejected"] and not dataset.report["duplicates"]["removed from train"]


def test_the_overlay_adds_the_task_to_ours() -> None:
    objects = _rendered(EXAMPLES / "overlay")
    made = {workload.name: workload for workload in workloads(objects)}
    assert set(made) == {"news", "tickets"}
    assert {w.container["image"].partition(":")[0] for w in made.values()} == {
        "registry.example.com/pigeonhole/predictor"
    }
    assert all(violations(workload.pod) == [] for workload in made.values())
    # What is the same for all tasks is the same in the example.
    ours, example = (dict(made[name].service["spec"]["predictor"]) for name in ("news", "tickets"))
    del ours["topologySpreadConstraints"]
    ours["model"] = {**ours["model"], "storageUri": example["model"]["storageUri"]}
    assert example == ours
    for label in ("app.kubernetes.io/component", "app.kubernetes.io/part-of"):  # policies and metrics go by them
        assert len({workload.service["metadata"]["labels"][label] for workload in made.values()}) == 1


def test_the_overlay_in_the_documents_renders(tmp_path: Path) -> None:
    bodies = [body for block in blocks("sh") for body in heredocs(block.text)]
    (body,) = [body for body in bodies if "4f1d2c3b5a69" in body]
    (tmp_path / "kustomization.yaml").write_text(body.replace("path/to/pigeonhole", os.path.relpath(ROOT, tmp_path)))
    made = {workload.name: workload.service for workload in workloads(_rendered(tmp_path))}
    assert made["news"]["spec"]["predictor"]["model"]["storageUri"] == "s3://models/news/4f1d2c3b5a69"
    assert made["news"]["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "keda"


def _rendered(folder: Path) -> list[Object]:
    try:
        done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("kubectl is not installed: it brings the kustomize that renders")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return list(yaml.safe_load_all(done.stdout))
