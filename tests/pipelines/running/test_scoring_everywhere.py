"""The same bytes from a process here, from the tasks of a pipeline, and from Spark's executors."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from components.scoring import spark_job
from components.scoring.plan import Settings
from components.scoring.steps import score_here
from components.scoring.store import Store
from components.scoring.work import Entry
from tests.components.scoring.conftest import digests, mislabelled
from tests.conftest import ROOT, toy_frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts to score, and labelled rows."""
    made = tmp_path_factory.mktemp("everywhere")
    frame = toy_frame(70, 51)[["text"]]
    frame.loc[5, "text"] = None
    frame.to_csv(made / "new.csv", index=False)
    toy_frame(10, 52).to_csv(made / "labelled.csv", index=False)
    mislabelled(made / "labelled.csv", made / "wrong.csv", 0.9)
    return made


@pytest.fixture(scope="module")
def here(folder: Path, bundle: Path) -> dict[str, str]:
    """The files of the batch as one process makes them."""
    settings = Settings(canaries=str(folder / "labelled.csv"), probabilities=True, part_rows=60)
    score_here(str(folder / "new.csv"), str(bundle), str(folder / "here"), settings)
    return digests(folder / "here")


_PIPELINE = """
import json, sys, warnings
from kfp import local
from pipelines.scoring import scoring
warnings.simplefilter("ignore")
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[1], raise_on_error=True)
print("outputs", json.dumps(scoring(**json.loads(sys.argv[2])).outputs))
"""


def _pipeline(root: Path, **parameters: object) -> subprocess.CompletedProcess[str]:
    """Run the pipeline in a process of its own: kfp's runner remembers where it runs."""
    command = [sys.executable, "-c", _PIPELINE, str(root), json.dumps(parameters)]
    return subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}


@pytest.mark.slow(reason="starts a process for each of six steps")
def test_a_pipeline_gives_the_same_bytes(folder: Path, here: dict[str, str], bundle: Path, tmp_path: Path) -> None:
    done = _pipeline(
        tmp_path / "root", data=str(folder / "new.csv"), bundle=str(bundle), out=str(tmp_path / "out"),
        canaries=str(folder / "labelled.csv"), probabilities=True, part_rows=60, shards=3,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert digests(tmp_path / "out") == here
    outputs = json.loads(done.stdout.rpartition("outputs ")[2])
    assert outputs["rows"] == 210 and outputs["manifest"] == str(tmp_path / "out/manifest.json")


@pytest.mark.slow(reason="starts a process for each step")
def test_a_pipeline_fails_with_a_sentence_if_its_batch_is_paused(folder: Path, bundle: Path, tmp_path: Path) -> None:
    done = _pipeline(
        tmp_path / "root", data=str(folder / "new.csv"), bundle=str(bundle), out=str(tmp_path / "out"),
        canaries=str(folder / "wrong.csv"), part_rows=105, shards=1,
    )  # fmt: skip
    assert done.returncode and "is paused: of " in done.stdout
    assert (tmp_path / "out/paused.json").exists() and not (tmp_path / "out/manifest.json").exists()


def _spark(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the job with two executor threads on this machine, as spark-submit does."""
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("pyspark is not installed: pip install 'pigeonhole[spark]'")
    if not shutil.which("java"):
        pytest.skip("no java is installed, which Spark runs on")
    settings = {
        **_environment(),
        "PYSPARK_SUBMIT_ARGS": "--master local[2] --conf spark.ui.enabled=false pyspark-shell",
    }
    command = [sys.executable, str(ROOT / "components/scoring/spark_job.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=settings, check=False)


def _words(folder: Path, bundle: Path, out: Path, canaries: str) -> Sequence[object]:
    return [folder / "new.csv", "--bundle", bundle, "--out", out, "--canaries", folder / canaries, "--part-rows", 60]


@pytest.mark.slow(reason="starts Spark")
def test_spark_gives_the_same_bytes(folder: Path, here: dict[str, str], bundle: Path, tmp_path: Path) -> None:
    done = _spark(*_words(folder, bundle, tmp_path / "out", "labelled.csv"), "--probabilities")
    assert done.returncode == 0, done.stderr[-3000:]
    assert digests(tmp_path / "out") == here


@pytest.mark.slow(reason="starts Spark")
def test_spark_pauses_and_says_so(folder: Path, bundle: Path, tmp_path: Path) -> None:
    done = _spark(*_words(folder, bundle, tmp_path / "out", "wrong.csv"))
    assert done.returncode == 1 and (tmp_path / "out/paused.json").exists(), done.stderr[-3000:]


def test_a_task_of_spark_scores_its_part(
    folder: Path, here: dict[str, str], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = Entry.read, list[str]()

    def noted(store: Store, name: str) -> Entry | None:
        reads.append(name)
        return read(store, name)

    monkeypatch.setattr(Entry, "read", noted)

    class Rows(list[int]):
        def mapPartitions(self, task):  # type: ignore[no-untyped-def]
            return Rows(done for number in self for done in task(iter([number])))

        def collect(self) -> list[int]:
            return self

    class Context:
        def parallelize(self, numbers: range, slices: int) -> Rows:
            assert slices == len(numbers) == 4
            return Rows(numbers)

    class Session:
        sparkContext = Context()

    settings = Settings(canaries=str(folder / "labelled.csv"), probabilities=True, part_rows=60)
    spark_job.score_with(Session(), str(folder / "new.csv"), str(bundle), str(tmp_path / "out"), settings)
    assert digests(tmp_path / "out") == here
    assert len(reads) == 2 * 4  # by the worker, and by the driver for the manifest


def test_the_jobs_arguments_are_the_batchs() -> None:
    asked = spark_job.parser().parse_args(["new.csv", "--bundle", "b", "--out", "o"])
    assert Settings(asked.text, asked.label, asked.canaries, asked.probabilities, asked.part_rows) == Settings()
