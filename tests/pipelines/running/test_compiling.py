import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import yaml

import components
from components import STEPS_IMAGE
from pipelines.running.compiling import compile_all
from tests.pipelines.stages import STAGES


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    (one,) = compile_all(tmp_path / "one")
    (two,) = compile_all(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["training.yaml"]


def test_the_dag_has_every_stage_on_our_image_with_nothing_to_install(tmp_path: Path) -> None:
    (file,) = compile_all(tmp_path, "example.org/steps-python@sha256:abc")
    spec = yaml.safe_load(file.read_text())
    tasks = spec["root"]["dag"]["tasks"]
    assert set(tasks) == {*STAGES, "exit-handler-1", "end-rollout"}
    assert tasks["end-rollout"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    (condition,) = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"].values()
    assert "service" in condition["triggerPolicy"]["condition"]
    assert set(spec["components"]["comp-condition-2"]["dag"]["tasks"]) == {"start-rollout", "judge-rollout"}
    containers = [executor["container"] for executor in spec["deploymentSpec"]["executors"].values()]
    assert {container["image"] for container in containers} == {"example.org/steps-python@sha256:abc"}
    told = {"name": "PIGEONHOLE_STEPS_IMAGE", "value": "example.org/steps-python@sha256:abc"}
    assert all(told in container["env"] for container in containers)
    assert "pip install" not in file.read_text()


# Each of these was read: its outputs follow from its inputs, and it touches nothing else. Add none without reading it.
PURE = {"gate"}


def test_only_steps_without_outside_effects_may_be_answered_by_the_cache(tmp_path: Path) -> None:
    for file in compile_all(tmp_path):
        spec = yaml.safe_load(file.read_text())
        parts = [spec["root"], *spec["components"].values()]
        tasks = {name: task for part in parts for name, task in part.get("dag", {}).get("tasks", {}).items()}
        cached = {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
        assert {"collect", "register", "end-rollout"} <= tasks.keys() and cached <= PURE, (
            f"{file.name}: {sorted(cached - PURE)} may be cached"
        )


def test_the_default_image_is_this_releases(tmp_path: Path) -> None:
    (file,) = compile_all(tmp_path)
    assert f"image: {STEPS_IMAGE}" in file.read_text()


def test_every_parameter_and_artifact_is_described_for_the_dashboard(tmp_path: Path) -> None:
    (file,) = compile_all(tmp_path)
    spec = yaml.safe_load(file.read_text())
    for name, parameter in spec["root"]["inputDefinitions"]["parameters"].items():
        assert parameter.get("description"), name
    for name in _component_modules():
        for _, component in inspect.getmembers(importlib.import_module(name)):
            if hasattr(component, "component_spec"):
                assert component.description, component.name


def _component_modules() -> list[str]:
    found = [name for _, name, _ in pkgutil.walk_packages(components.__path__, "components.")]
    return [name for name in found if name.endswith(".component")]


@pytest.mark.parametrize("package", ["predictor", "components"])
def test_imports_point_one_way(package: str) -> None:
    forbidden = {"predictor": ("components", "pipelines"), "components": ("pipelines",)}[package]
    root = Path(components.__file__).parent.parent
    for file in (root / package).rglob("*.py"):
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"]):
                assert words[1].split(".")[0] not in forbidden, f"{file}: {line}"
