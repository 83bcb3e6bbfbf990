"""Each extra declares what its code imports, so that no command lives off what another package happens to bring."""

import ast
import re
import sys
from collections import defaultdict
from importlib.metadata import packages_distributions
from pathlib import Path
from tomllib import loads

import pytest

from tests.conftest import ROOT

PROJECT = loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {
    module: {name.lower().replace("_", "-") for name in names} for module, names in packages_distributions().items()
}
DISTRIBUTIONS["google.protobuf"] = {"protobuf"}
OURS = ("predictor", "components", "pipelines")
STAGES = ("data", "training", "tuning", "evaluation", "registry", "preflight", "labelling", "monitoring")
ENTRIES = {
    "serve": ("predictor.serving",),
    "explain": ("predictor.model.gradients",),
    "client": ("predictor.client", "pipelines.running.label_file", "pipelines.running.explain_texts"),
    "rollout": ("components.rollout",),
    "label": ("components.labelling",),
    "monitor": ("components.monitoring.drift", "components.monitoring.publish", "components.monitoring.metric_names"),
    "score": ("components.scoring", "pipelines.running.results"),
    "models": ("components.registry", "components.rollout.versions"),
    "pipelines": ("pipelines.kubeflow", "pipelines.running.compiling", "pipelines.training", "pipelines.monitoring"),
    "trigger": ("pipelines.trigger",),
    "crawl": ("components.data.crawl",),
    "train": (
        "pipelines.running.local",
        "pipelines.running.monitoring",
        "pipelines.running.tuning",
        *(f"components.{stage}" for stage in STAGES),
    ),
}
"""Where the commands of an extra enter the code: modules, and folders with all they hold."""
PIPELINES_ONLY = {
    *(f"components.{stage}.component" for stage in ("labelling", "rollout", "registry", "scoring")),
    "components.monitoring.drift.component",
    "components.monitoring.log.component",
}
"""Steps, which the extra of the commands beside them does not run."""
APART = {"train": ("components.data.crawl.",), "score": ("components.scoring.spark_job",)}
"""Folders in those of an extra that have an extra of their own."""
ELSEWHERE = {
    ("serve", "torch"): "the precision torch, which only a GPU needs, and explanations",
    ("serve", "transformers"): "the same",
    ("label", "torch"): "the same",
    ("score", "torch"): "the same",
    ("score", "transformers"): "the same",
    ("label", "transformers"): "the same",
    ("monitor", "torch"): "the same",
    ("monitor", "transformers"): "the same",
    ("rollout", "mlflow"): "only where --mlflow-tracking-uri names a server",
}


def _modules() -> dict[str, Path]:
    files = [file for top in OURS for file in (ROOT / top).rglob("*.py")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def _imports(file: Path) -> set[str]:
    """Return what a module imports; of a pipeline step its head alone: its body runs in the image of the steps."""
    tree = ast.parse(file.read_text())
    found = set()
    for node in tree.body if file.name == "component.py" else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def modules_of(extra: str) -> list[str]:
    """Return the modules in which the commands of an extra enter the code."""
    entries = ENTRIES[extra]
    inside = tuple(f"{entry}." for entry in entries)
    apart = (*PIPELINES_ONLY, *APART.get(extra, ()))
    return [name for name in _modules() if (name in entries or name.startswith(inside)) and not name.startswith(apart)]


def _reached(extra: str) -> dict[str, list[str]]:
    """Return the packages of others that an extra reaches, each with the modules that import it."""
    modules, waiting = _modules(), modules_of(extra)
    seen, packages = set(waiting), defaultdict(list)
    while waiting:
        module = waiting.pop()
        for name in _imports(modules[module]):
            if name in modules:
                waiting += [name] if name not in seen else []
                seen.add(name)
            elif (top := name.split(".")[0]) not in (*OURS, *sys.stdlib_module_names):
                packages[".".join(name.split(".")[:2]) if top == "google" else top].append(module)
    return packages


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", text)[0].lower().replace("_", "-") for text in requirements}


@pytest.mark.parametrize("extra", ENTRIES)
def test_an_extra_declares_what_its_code_imports(extra: str) -> None:
    declared = _names(PROJECT["dependencies"] + PROJECT["optional-dependencies"][extra])
    missing = {
        name: sorted(set(importers))
        for name, importers in _reached(extra).items()
        if not declared & DISTRIBUTIONS.get(name, {name}) and (extra, name) not in ELSEWHERE
    }
    assert not missing


def test_a_package_has_the_same_versions_in_every_extra() -> None:
    versions = defaultdict(set)
    for requirements in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        for text in requirements:
            versions[_names([text]).pop()].add(text)
    assert {name: texts for name, texts in versions.items() if len(texts) > 1} == {}
