"""pyproject.toml says which version this is; each other place has it from there, or is held to it here."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import predictor
from components import STEPS_IMAGE
from tests.conftest import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
# An image of this project, the tag that make gets, and what kustomize writes.
_MENTIONED = re.compile(
    r"pigeonhole/(?:predictor|steps-python):(\w[\w.-]*\w)"
    r"|\bTAG=(\d[\w.-]*\w)|newTag: (\S+)|kubernetes\.io/version: (\S+)"
)
_FOLDERS = ("docs", "examples", "images", "kustomize", "manifests", "predictor", "components", "pipelines")
_SUFFIXES = {".md", ".yaml", ".Dockerfile", ".py"}


def test_the_installed_package_and_its_images_have_the_version() -> None:
    assert predictor.__version__ == VERSION
    assert f"pigeonhole/steps-python:{VERSION}" == STEPS_IMAGE


def mentions() -> dict[str, set[str]]:
    """Return by file which versions of this project's images it names."""
    files = [*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]
    for name in _FOLDERS:
        files += [file for file in (ROOT / name).rglob("*") if file.suffix in _SUFFIXES]
    found = {str(file.relative_to(ROOT)): set(_MENTIONED.findall(file.read_text())) for file in files}
    return {file: {next(filter(None, groups)) for groups in versions} for file, versions in found.items() if versions}


def test_no_file_names_an_image_of_another_version() -> None:
    found = mentions()
    assert {"manifests/serving/kustomization.yaml", "manifests/katib/experiment.yaml"} <= set(found)
    assert {file: versions for file, versions in found.items() if versions != {VERSION}} == {}


@pytest.mark.parametrize(
    ("given", "tag", "label"),
    [(None, VERSION, VERSION), ("v0.2.0", "v0.2.0", "0.2.0"), ("9.1.0", "9.1.0", "9.1.0")],
)
def test_an_image_is_labelled_with_the_version_of_its_tag(
    given: str | None, tag: str, label: str, tmp_path: Path
) -> None:
    engine, log = tmp_path / "docker", tmp_path / "log"
    engine.write_text(f'#!/bin/sh\necho "$*" >> {log}\n[ "$1" != image ] || echo 1\n')
    engine.chmod(0o755)
    own = {name: value for name, value in os.environ.items() if name not in {"TAG", "IMAGE_PREFIX", "PIGEONHOLE_TOOLS"}}
    environment = {**own, "DOCKER": str(engine), **({"TAG": given} if given else {})}
    subprocess.run([ROOT / ".ci/images"], env=environment, capture_output=True, check=True)
    builds = [line for line in log.read_text().splitlines() if line.startswith("build ") and "--tag" in line]
    assert [line.split()[-2] for line in builds] == [
        f"pigeonhole/{name}:{tag}" for name in ("predictor", "steps-python")
    ]
    assert all(f"--build-arg VERSION={label} " in line for line in builds)


def test_make_builds_the_version_unless_a_tag_is_given() -> None:
    own = {name: value for name, value in os.environ.items() if name not in {"TAG", "MAKEFLAGS"}}
    command = ["make", "--no-print-directory", "--eval", "shown: ; @echo $(TAG)", "shown"]
    assert subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True).stdout.split() == [VERSION]
    given = {**own, "TAG": "v0.2.0"}
    assert subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True).stdout.split() == ["v0.2.0"]
