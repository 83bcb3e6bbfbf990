"""Each extra alone in an environment: its commands run, its code imports, other commands say what they lack."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.packaging.test_declared import ENTRIES, modules_of
from tests.pipelines.stages import STAGES

COMMANDS = {
    "serve": ["serve"],
    "explain": [],
    "client": ["predict"],
    "rollout": ["rollout", "rollout start", "rollout status", "rollout judge", "rollout rollback"],
    "label": ["label", "label suggest", "label import", "label merge"],
    "score": ["score"],
    "monitor": ["monitor", "monitor drift"],
    "models": ["models", "models list", "models diff", "models promote", "models retire"],
    "pipelines": ["compile", "submit", "schedule"],
    "trigger": ["trigger"],
    "crawl": ["data crawl"],
    "train": ["run", "tune"],
}
# Something that each extra is for, its exit code, and a part of what it says.
DONE = {
    "serve": ("serve /none", 2, "/none"),
    "explain": ("--version", 0, "pigeonhole"),
    "client": ("predict --url http://127.0.0.1:9 text", 3, "http://127.0.0.1:9"),
    "rollout": ("rollout status news", 2, "KUBECONFIG"),
    "label": ("label merge /none.csv --out none.csv", 2, "/none.csv"),
    "score": ("score /none.csv --bundle /none --out out", 2, "/none"),
    "monitor": ("monitor drift /none --texts none.csv --out none", 2, "/none"),
    "models": ("models list --out /none", 2, "there is no database"),
    "pipelines": ("compile --out ir", 0, "training.yaml"),
    "trigger": ("trigger --webhook-token-file /none --pipeline /none.yaml --host http://localhost", 2, "/none.yaml"),
    "crawl": ("data crawl /none --out out", 2, "/none"),
    "train": ("run --data /none", 2, "/none"),
}
# And something that another extra is for, and that extra.
LACKING = {
    "serve": ("compile --out ir", "pipelines"),
    "explain": ("serve /none", "serve"),
    "client": ("serve /none", "serve"),
    "rollout": ("serve /none", "serve"),
    "label": ("serve /none", "serve"),
    "score": ("compile --out ir", "pipelines"),
    "monitor": ("serve /none", "serve"),
    "models": ("serve /none", "serve"),
    "pipelines": ("serve /none", "serve"),
    "trigger": ("serve /none", "serve"),
    "crawl": ("serve /none", "serve"),
}


@dataclass(frozen=True)
class Environment:
    folder: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment, far from the checkout, its cluster and its settings."""
        settings = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "HOME": str(self.folder), "COLUMNS": "120"}
        return subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=self.folder, env=settings, capture_output=True, text=True, timeout=300,
        )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product's wheel, built out of a copy, since a build leaves folders in the sources."""
    sources, wheels = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheels")
    for name in ("predictor", "components", "pipelines"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, sources], check=True)
    return next(wheels.glob("*.whl"))


@pytest.fixture
def environment(extra: str, wheel: Path, tmp_path: Path) -> Iterator[Environment]:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "environment"], check=True)
    made = Environment(tmp_path / "environment")
    # Compiling all of it takes longer than installing it, and little of it is imported.
    install = ["install", "-q", "--no-compile", f"{wheel}[{extra}]"]
    subprocess.run([sys.executable, "-m", "pip", "--python", made.folder / "bin" / "python", *install], check=True)
    yield made
    shutil.rmtree(made.folder)  # each has a gigabyte or two


@pytest.mark.slow(reason="installs every package of an extra into an empty environment")
@pytest.mark.parametrize("extra", ENTRIES)
def test_an_extra_alone_is_enough_for_its_commands(extra: str, environment: Environment) -> None:
    for command in COMMANDS[extra]:
        shown = environment.run("pigeonhole", *command.split(), "--help")
        assert shown.returncode == 0 and "Usage: pigeonhole" in shown.stdout, shown.stderr

    line, code, said = DONE[extra]
    done = environment.run("pigeonhole", *line.split())
    assert done.returncode == code and said in done.stdout + done.stderr, done.stderr
    if code:
        *before, sentence = done.stderr.splitlines()
        assert sentence.startswith("pigeonhole: "), done.stderr
        assert set(before) <= ({*STAGES, "end-rollout"} if extra == "train" else set()), done.stderr

    imported = environment.run("python", "-c", f"import {', '.join(modules_of(extra))}")
    assert imported.returncode == 0, imported.stderr

    if extra in LACKING:
        line, other = LACKING[extra]
        lacking = environment.run("pigeonhole", *line.split())
        assert lacking.returncode == 2 and f"pip install 'pigeonhole[{other}]'" in lacking.stderr
        assert lacking.stderr.count("\n") == 1
