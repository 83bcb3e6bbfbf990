"""From the DAG to the IR YAML that Kubeflow Pipelines takes."""

import os
from pathlib import Path

import yaml
from kfp import compiler

from components import IMAGE_VARIABLE, STEPS_IMAGE
from pipelines.training import training

PIPELINES = {"training": training}


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
    file, aside = out / f"{name}.yaml", out / f".{name}.yaml"
    compiler.Compiler().compile(PIPELINES[name], str(aside))
    documents = list(yaml.safe_load_all(aside.read_text()))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = image
        executor["container"].setdefault("env", []).append({"name": IMAGE_VARIABLE, "value": image})
    aside.write_text(yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True))
    os.replace(aside, file)
    return file
