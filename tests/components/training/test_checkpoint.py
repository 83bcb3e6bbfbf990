"""Training that is killed for real, and goes on."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import fsspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from components.data.dataset import Dataset
from components.training.fine_tuning import fine_tune as finetune
from components.training.fine_tuning.checkpoint import Checkpoint
from components.training.fine_tuning.precision import precision_of
from components.training.recipe import Epoch, Recipe
from predictor.errors import InputError
from tests.fakes.storage import object_storage

_SCRIPT = """
import sys
from pathlib import Path
from components.data.dataset import Dataset
from components.training.fine_tuning import fine_tune as finetune
from components.training.recipe import Recipe

data, backbone, out, checkpoints, pause = sys.argv[1:]
finetune.CHECKPOINT_SECONDS = 0.0
if pause:  # slow enough to be killed between two batches
    import time
    step = finetune._Training._step
    def slow(self, batch):
        time.sleep(float(pause))
        return step(self, batch)
    finetune._Training._step = slow
dataset = Dataset.load(Path(data))
recipe = Recipe(epochs=3, learning_rate=5e-3, batch_tokens=512, max_length=32)
finetune.fine_tune(
    Path(backbone), dataset.train, dataset.validation, dataset.labels, recipe, Path(out), 3, checkpoints=checkpoints
)
"""


def _start(dataset: Path, backbone: Path, out: Path, checkpoints: Path, pause: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _SCRIPT, *map(str, (dataset, backbone, out, checkpoints)), pause]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _wait_for_saves(folder: Path, times: int) -> None:
    seen: set[str] = set()
    deadline = time.monotonic() + 120
    while len(seen) < times:
        assert time.monotonic() < deadline
        seen.update(file.name for file in folder.glob("*.pt"))
        time.sleep(0.01)


@pytest.mark.slow(reason="trains in three processes")
def test_killed_in_the_second_epoch_it_ends_with_the_same_weights(
    dataset: Dataset, backbone: Path, tmp_path: Path
) -> None:
    dataset.save(tmp_path / "data")
    whole = _start(tmp_path / "data", backbone, tmp_path / "whole", tmp_path / "unused")
    assert whole.communicate()[0] and whole.returncode == 0

    killed = _start(tmp_path / "data", backbone, tmp_path / "out", tmp_path / "checkpoints", pause="0.15")
    assert killed.stdout is not None
    for line in killed.stdout:
        if "epoch 1:" in line:
            break
    _wait_for_saves(tmp_path / "checkpoints", 4)  # a few batches into the second epoch
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert not (tmp_path / "out" / "model.safetensors").exists()

    resumed = _start(tmp_path / "data", backbone, tmp_path / "out", tmp_path / "checkpoints")
    said = resumed.communicate()[0]
    assert resumed.returncode == 0, said
    assert "going on from the checkpoint in epoch 2, batch" in said and "batch 1\n" not in said
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "out"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    histories = [json.loads((tmp_path / name / "training.json").read_text())["history"] for name in ("whole", "out")]
    timeless = [[{k: v for k, v in row.items() if "second" not in k} for row in history] for history in histories]
    assert timeless[0] == timeless[1]
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_run_that_goes_on_computes_as_it_began(
    dataset: Dataset, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(precision: str, on_epoch: Callable[[Epoch], None]) -> None:
        chosen = precision_of(precision, torch.device("cpu"), "of the figures")
        monkeypatch.setattr(finetune, "choose_precision", lambda model, once: chosen)
        recipe = Recipe(epochs=2, learning_rate=5e-3, batch_tokens=512, max_length=32)
        rows = (dataset.train, dataset.validation, dataset.labels)
        finetune.fine_tune(backbone, *rows, recipe, tmp_path / "out", 3, on_epoch, str(tmp_path / "checkpoints"))

    def killed(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("bf16", killed)
    run("fp32", lambda epoch: None)
    record = json.loads((tmp_path / "out/training.json").read_text())
    assert (record["precision"], record["precision_reason"]) == ("bf16", "the run began with it")


def test_another_job_does_not_take_the_state(tmp_path: Path) -> None:
    Checkpoint(str(tmp_path), {"seed": 1}).save({"weights": torch.ones(3)})
    assert Checkpoint(str(tmp_path), {"seed": 2}).load() is None
    state = Checkpoint(str(tmp_path), {"seed": 1}).load()
    assert state is not None and state["weights"].tolist() == [1, 1, 1]


def test_an_object_store_takes_states_too() -> None:
    checkpoint = Checkpoint("memory://checkpoints/news", {"seed": 1})
    assert checkpoint.load() is None
    checkpoint.save({"weights": torch.ones(3)})
    state = Checkpoint("memory://checkpoints/news", {"seed": 1}).load()
    assert state is not None and state["weights"].tolist() == [1, 1, 1]
    checkpoint.remove()
    assert checkpoint.load() is None


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "s3":
        with object_storage(monkeypatch) as bucket:
            yield f"{bucket}/checkpoints"
    else:
        yield str(tmp_path) if request.param == "folder" else f"memory://{tmp_path.name}"


def _cut_off(error: BaseException) -> Callable[[Any, IO[bytes]], None]:
    """As torch.save, but half way an error comes up, or a signal's exception."""

    def save(state: Any, stream: IO[bytes]) -> None:
        content = io.BytesIO()
        torch_save(state, content)
        stream.write(content.getvalue()[: len(content.getvalue()) // 2])
        raise error

    torch_save = torch.save
    return save


@pytest.mark.parametrize("error", [SystemExit(143), OSError("no route to host")], ids=["SIGTERM", "an error"])
def test_a_state_that_is_cut_off_leaves_the_one_before(
    place: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(place, {"seed": 1})
    checkpoint.save({"weights": torch.ones(3)})
    with monkeypatch.context() as patch, pytest.raises((SystemExit, InputError)):
        patch.setattr(torch, "save", _cut_off(error))
        checkpoint.save({"weights": torch.ones(1_000_000)})
    state = Checkpoint(place, {"seed": 1}).load()
    assert state is not None and state["weights"].tolist() == [1, 1, 1]


def test_a_state_that_cannot_be_read_is_none(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = Checkpoint(place, {"seed": 1})
    checkpoint.save({"weights": torch.ones(3)})
    files, folder = fsspec.core.url_to_fs(place)
    (first,) = files.ls(folder, detail=False)
    files.pipe_file(first.replace(".1.", ".2."), files.cat_file(first)[:-100])
    state = checkpoint.load()
    assert state is not None and state["weights"].tolist() == [1, 1, 1]
    (line,) = capsys.readouterr().out.splitlines()
    assert ".2.pt is skipped, since it cannot be read" in line
    files.pipe_file(first, b"garbage")
    assert checkpoint.load() is None
    checkpoint.save({"weights": torch.zeros(3)})
    assert len(files.ls(folder, detail=False)) == 1
    state = checkpoint.load()
    assert state is not None and state["weights"].tolist() == [0, 0, 0]
    checkpoint.remove()
    assert checkpoint.load() is None


def test_a_place_that_cannot_be_used_is_one_sentence() -> None:
    with pytest.raises(
        InputError, match=r"checkpoints under gcs://b cannot be read \(ImportError: .*whether the fsspec"
    ):
        Checkpoint("gcs://b", {"seed": 1})


def test_without_a_place_there_is_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint("", {"seed": 1})
    checkpoint.save({"weights": torch.ones(3)})
    checkpoint.remove()
    assert checkpoint.load() is None and list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint(str(tmp_path), {"seed": 1})
    checkpoint.save({"weights": torch.ones(3)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(InputError, match=f"checkpoint {tmp_path}.* cannot be written"):
            checkpoint.save({"weights": torch.ones(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    state = checkpoint.load()
    assert state is not None and state["weights"].tolist() == [1, 1, 1]
    assert [file.suffix for file in tmp_path.iterdir()] == [".pt"]
