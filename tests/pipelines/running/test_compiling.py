import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import yaml

import components
from components import STEPS_IMAGE
from pipelines.running.compiling import PIPELINES, compile_all
from tests.pipelines.stages import STAGES


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    ones, twos = (compile_all(tmp_path / name) for name in ("one", "two"))
    assert [one.read_bytes() for one in ones] == [two.read_bytes() for two in twos]
    assert [file.name for file in ones] == [f"{name}.yaml" for name in PIPELINES]
    assert set(ones) == set((tmp_path / "one").iterdir())


def test_the_dag_has_every_stage_on_our_image_with_nothing_to_install(tmp_path: Path) -> None:
    file, *_ = compile_all(tmp_path, "example.org/steps-python@sha256:abc")
    spec = yaml.safe_load(file.read_text())
    tasks = spec["root"]["dag"]["tasks"]
    assert set(tasks) == {*STAGES, "exit-handler-1", "end-rollout", "condition-4"}
    assert tasks["end-rollout"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    (condition,) = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"].values()
    assert "service" in condition["triggerPolicy"]["condition"]
    branches = {name: set(spec["components"][f"comp-condition-{name}"]["dag"]["tasks"]) for name in (3, 4)}
    assert branches == {3: {"start-rollout", "judge-rollout"}, 4: {"refuse"}}
    (passed,) = spec["components"]["comp-condition-2"]["dag"]["tasks"].values()
    ends = [task["triggerPolicy"]["condition"].split()[-2:] for task in (passed, tasks["condition-4"])]
    assert ends == [["==", "true"], ["==", "false"]]
    # kfp's local runner resolves no other name of an output in a condition, and would take neither branch.
    assert "'pipelinechannel--report-Output'" in tasks["condition-4"]["triggerPolicy"]["condition"]
    containers = [executor["container"] for executor in spec["deploymentSpec"]["executors"].values()]
    assert {container["image"] for container in containers} == {"example.org/steps-python@sha256:abc"}
    told = {"name": "PIGEONHOLE_STEPS_IMAGE", "value": "example.org/steps-python@sha256:abc"}
    assert all(told in container["env"] for container in containers)
    assert "pip install" not in file.read_text()


def test_scoring_is_a_loop_between_a_plan_and_a_merge(tmp_path: Path) -> None:
    (file,) = (file for file in compile_all(tmp_path) if file.name == "scoring.yaml")
    spec = yaml.safe_load(file.read_text())
    tasks = spec["root"]["dag"]["tasks"]
    loop = next(task for task in tasks.values() if "parameterIterator" in task)
    items = loop["parameterIterator"]["items"]["inputParameter"]
    of = loop["inputs"]["parameters"][items]["taskOutputParameter"]
    assert of["producerTask"] == "plan" and loop["dependentTasks"] == ["plan"]
    assert tasks["merge"]["dependentTasks"] == [next(name for name, task in tasks.items() if task is loop)]
    assert set(spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"]) == {"score"}


# Each of these was read: its outputs follow from its inputs, and it touches nothing else. Add none without reading it.
PURE = {"gate", "refuse", "report"}


def test_only_steps_without_outside_effects_may_be_answered_by_the_cache(tmp_path: Path) -> None:
    for file in compile_all(tmp_path):
        spec = yaml.safe_load(file.read_text())
        parts = [spec["root"], *spec["components"].values()]
        tasks = {name: task for part in parts for name, task in part.get("dag", {}).get("tasks", {}).items()}
        cached = {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
        assert len(tasks) > 3 and cached <= PURE, f"{file.name}: {sorted(cached - PURE)} may be cached"


def test_a_round_of_monitoring_has_three_ends_on_our_image_with_nothing_to_install(tmp_path: Path) -> None:
    compile_all(tmp_path, "example.org/steps-python@sha256:abc")
    text = (tmp_path / "monitoring.yaml").read_text()
    spec = yaml.safe_load(text)
    tasks = spec["root"]["dag"]["tasks"]
    ends = {name: task for name, task in tasks.items() if name.startswith("condition")}
    assert set(tasks) - set(ends) == {"compact", "current", "drift", "join-labels", "decide"}
    assert {"compact"} <= set(tasks["drift"]["dependentTasks"]) & set(tasks["join-labels"]["dependentTasks"])
    followed = {}
    for task in ends.values():
        (step,) = spec["components"][task["componentRef"]["name"]]["dag"]["tasks"]
        followed[step] = task["triggerPolicy"]["condition"]
    assert set(followed) == {"ask-for-labels", "start-training"}
    assert "== 'label'" in followed["ask-for-labels"] and "== 'retrain'" in followed["start-training"]
    # kfp's local runner resolves no other name of an output in a condition, and would take neither branch.
    assert all("'pipelinechannel--decide-Output'" in condition for condition in followed.values())
    containers = [executor["container"] for executor in spec["deploymentSpec"]["executors"].values()]
    assert {container["image"] for container in containers} == {"example.org/steps-python@sha256:abc"}
    assert "pip install" not in text
    for name, parameter in spec["root"]["inputDefinitions"]["parameters"].items():
        assert parameter.get("description"), name


def test_the_default_image_is_this_releases(tmp_path: Path) -> None:
    file, *_ = compile_all(tmp_path)
    assert f"image: {STEPS_IMAGE}" in file.read_text()


def test_every_parameter_and_artifact_is_described_for_the_dashboard(tmp_path: Path) -> None:
    for file in compile_all(tmp_path):
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
