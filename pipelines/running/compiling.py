"""Compile the pipelines to the IR YAML of Kubeflow Pipelines, and to Kubernetes objects that contain it."""

from pathlib import Path
from typing import Any

import yaml
from kfp import compiler

from components import IMAGE_VARIABLE, STEPS_IMAGE
from pipelines.kubeflow.package import Package, read_package
from pipelines.monitoring import monitoring
from pipelines.scoring import scoring
from pipelines.training import training
from predictor.files import whole

PIPELINES = {"training": training, "monitoring": monitoring, "scoring": scoring}
# Steps without side effects whose outputs depend on their inputs alone; Kubeflow may cache them. All others read data
# that can change at the same address, write to MLflow or object storage, or act on a cluster. Cache entries never
# expire: with caching, a nightly run would reuse old data, and its exit handler would not run.
PURE_STEPS = frozenset({"gate", "report"})


def compile_all(out: Path, image: str = STEPS_IMAGE) -> list[Path]:
    """Compile every pipeline into `OUT/NAME.yaml`, deterministically.

    Args:
        out: folder to write into.
        image: the steps' container image, with a digest in production.

    Returns:
        The files written.
    """
    out.mkdir(parents=True, exist_ok=True)
    return [_compile(name, out, image) for name in PIPELINES]


def _compile(name: str, out: Path, image: str) -> Path:
    file = out / f"{name}.yaml"
    with whole(file) as aside:
        compiler.Compiler().compile(PIPELINES[name], str(aside))
        documents = list(yaml.safe_load_all(aside.read_text()))
        for executor in documents[0]["deploymentSpec"]["executors"].values():
            executor["container"]["image"] = image
            executor["container"].setdefault("env", []).append({"name": IMAGE_VARIABLE, "value": image})
        _disable_caching(documents[0])
        aside.write_text(yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True))
    return file


def _disable_caching(spec: dict[str, Any]) -> None:
    dags = [component["dag"] for component in (spec["root"], *spec["components"].values()) if "dag" in component]
    for dag in dags:
        for task in dag["tasks"].values():
            if task["componentRef"]["name"].removeprefix("comp-") not in PURE_STEPS:
                task["cachingOptions"] = {}


def write_manifests(files: list[Path]) -> list[Path]:
    """Write each compiled pipeline as Kubernetes objects into the folder `kubernetes` beside it.

    Versions have the same names as with `pigeonhole submit`, so both ways create the same version.

    Args:
        files: what `compile_all` wrote.

    Returns:
        The files written, two objects in each.
    """
    return [_write_manifest(read_package(file)) for file in files]


def _write_manifest(package: Package) -> Path:
    spec, *platform = package.documents
    version: dict[str, Any] = {"pipelineName": package.pipeline, "displayName": package.version, "pipelineSpec": spec}
    if platform:
        version["platformSpec"] = platform[0]
    objects = [
        _object("Pipeline", package.pipeline, {"displayName": package.title, "description": package.description}),
        _object("PipelineVersion", package.version, {**version, "description": f"sha256:{package.digest}"}),
    ]
    folder = package.file.parent / "kubernetes"
    folder.mkdir(exist_ok=True)
    file = folder / package.file.name
    with whole(file) as aside:
        aside.write_text(yaml.safe_dump_all(objects, sort_keys=True, allow_unicode=True))
    return file


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "pipelines.kubeflow.org/v2beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}
