"""Training in two processes that torchrun starts, next to training in one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

import components
from components.data.dataset import Dataset
from components.training.fine_tuning.process_group import ProcessGroup
from components.training.recipe import Recipe
from predictor.errors import InputError

pytestmark = pytest.mark.slow(reason="torchrun starts two processes that train, several times a test")

# One process of a run: in double precision, so that the order of additions shows in no digit that is compared even
# after Adam's hundred steps, and whatever the test wants to go wrong.
_SCRIPT = """
import json, os, resource, sys, time
from contextlib import nullcontext
from pathlib import Path
import torch
from components.data.dataset import Dataset, Split
from components.platform.termination import one_sentence
from components.training.fine_tuning import fine_tune as finetune
from components.training.fine_tuning.process_group import ProcessGroup
from components.training.fine_tuning.precision import TrainingPrecision
from components.training.recipe import Recipe
given = json.loads(sys.argv[1])
rank = int(os.environ.get("RANK", "0"))
finetune.choose_precision = lambda model, _: TrainingPrecision("fp64", torch.device("cpu"), "a test", nullcontext)
load = finetune.load_classifier
finetune.load_classifier = lambda *given, **more: load(*given, **more).double()
finetune.CHECKPOINT_SECONDS = given.get("checkpoint_seconds", 300.0)
step = finetune._Training._step
losses = []
def watched(self, batch):
    time.sleep(given.get("pause", 0.0))
    losses.append(step(self, batch))
    return losses[-1]
finetune._Training._step = watched
def on_epoch(epoch):
    if given.get("break_on_epoch"):
        raise OSError("nobody foresaw this")
dataset = Dataset.load(Path(given["data"]))
train = Split(dataset.train.frame.head(given.get("rows", 10**6)))
if rank == 1 and given.get("other_data"):
    train = Split(train.frame.head(20))
backbone = given["backbone"] if rank == 0 or not given.get("broken_backbone") else "/nowhere/at/all"
if "disk" in given:
    resource.setrlimit(resource.RLIMIT_FSIZE, (given["disk"], resource.RLIM_INFINITY))
with ProcessGroup.join() as group, one_sentence(), group.shared_errors():
    history = finetune.fine_tune(
        Path(backbone), train, dataset.validation, dataset.labels, Recipe(**given["recipe"]), Path(given["out"]), 3,
        on_epoch, given.get("checkpoints", ""),
    )
if rank == 0:
    Path(given["out"], "losses.json").write_text(json.dumps(losses))
Path(given["out"], f"epochs.{rank}").write_text(str(len(history)))
"""
# Seven texts a batch for two processes, so that shares differ in rows.
QUICK = Recipe(epochs=2, learning_rate=5e-3, batch_tokens=112, max_length=32)


@pytest.fixture(scope="module")
def still(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny backbone without dropout, whose masks depend on the process."""
    folder = shutil.copytree(backbone, tmp_path_factory.mktemp("still") / "backbone")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def data(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    dataset.save(folder)
    return folder


def _start(processes: int, *command: str) -> subprocess.Popen[str]:
    env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(components.__file__).parent.parent)}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [sys.executable, *(torchrun if processes > 1 else []), *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | env, start_new_session=True,
    )  # fmt: skip


def _start_worker(*options: str) -> subprocess.Popen[str]:
    """Start the command of a TrainJob's containers, which have `pigeonhole` on their PATH."""
    return _start(2, "--no-python", str(Path(sys.executable).with_name("pigeonhole")), "train-worker", *options)


def _train(processes: int, work: Path, **given: Any) -> tuple[int, str]:
    """Run the script to its end and return (exit code, what it said)."""
    return _finish(_script(processes, work, **given))


def _finish(run: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        said, _ = run.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        _kill_all(run)
        raise
    return run.returncode, said


def _script(processes: int, work: Path, **given: Any) -> subprocess.Popen[str]:
    work.mkdir(exist_ok=True)
    (work / "train.py").write_text(_SCRIPT)
    recipe = asdict(given.pop("recipe", QUICK))
    return _start(processes, str(work / "train.py"), json.dumps({"out": str(work / "out"), "recipe": recipe, **given}))


def _weights(work: Path) -> dict[str, np.ndarray[Any, Any]]:
    return load_file(work / "out" / "model.safetensors")


def _losses(work: Path) -> list[float]:
    losses: list[float] = json.loads((work / "out" / "losses.json").read_text())
    return losses


def _history(work: Path) -> list[list[float]]:
    rows = json.loads((work / "out" / "training.json").read_text())["history"]
    return [[row[name] for name in ("train_loss", "validation_loss", "validation_accuracy")] for row in rows]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=80, unique=True), st.integers(1, 9))
def test_the_shares_of_a_batch_partition_it_evenly(batch: list[int], size: int) -> None:
    shares = [ProcessGroup(rank, size).shard(batch) for rank in range(size)]
    counted = [rows for rows, counts in shares if counts]
    assert sorted(row for rows in counted for row in rows) == sorted(batch)
    assert max(map(len, counted)) - min(map(len, counted)) <= 1
    for rows, counts in shares:
        assert rows and set(rows) <= set(batch)
        assert counts in (0.0, 1.0) and (counts or len(rows) == 1)


def test_alone_there_is_nothing_to_join() -> None:
    with ProcessGroup.join() as group:
        assert group == ProcessGroup(0, 1, 0)
        assert group.sum(1.5, 2) == [1.5, 2] and group.all_gather("a") == ["a"] and group.run_on_main(lambda: 3) == 3
        with pytest.raises(InputError, match=r"^as it was$"), group.shared_errors():
            raise InputError("as it was")


@pytest.mark.parametrize(
    "hard",
    [
        {},
        {"balance_classes": True, "label_smoothing": 0.1},
        {"batch_tokens": 8},  # batches of one text: one of the two processes has no row of its own
    ],
    ids=["plain", "weighted", "empty-shares"],
)
def test_two_processes_learn_what_one_learns_with_twice_the_tokens(
    still: Path, data: Path, tmp_path: Path, hard: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"data": str(data), "backbone": str(still)}
    if hard:
        given["rows"] = 50  # of unequal classes
    tokens = int(hard.get("batch_tokens", QUICK.batch_tokens))
    recipe = asdict(QUICK) | hard
    for processes, budget in ((1, 2 * tokens), (2, tokens)):
        code, said = _train(
            processes, tmp_path / str(processes), recipe=Recipe(**(recipe | {"batch_tokens": budget})), **given
        )
        assert code == 0, said
    one, two = _losses(tmp_path / "1"), _losses(tmp_path / "2")
    assert len(one) > 10
    assert two == pytest.approx(one, rel=2e-5, abs=1e-6)
    assert np.allclose(_history(tmp_path / "1"), _history(tmp_path / "2"), rtol=2e-5, atol=1e-6)
    left, right = _weights(tmp_path / "1"), _weights(tmp_path / "2")
    for name in left:
        # A key's bias changes no attention, so its gradient is rounding noise, which Adam blows up to whole steps.
        assert np.allclose(left[name], right[name], rtol=0, atol=1e-2 if "key.bias" in name else 2e-5), name


def test_only_one_process_speaks_and_both_stop_early(still: Path, data: Path, tmp_path: Path) -> None:
    recipe = Recipe(epochs=9, learning_rate=1e-8, batch_tokens=2048, max_length=32, patience=2)
    code, said = _train(2, tmp_path, data=str(data), backbone=str(still), recipe=recipe)
    assert code == 0, said
    assert [(tmp_path / "out" / f"epochs.{rank}").read_text() for rank in (0, 1)] == ["3", "3"]
    lines = Counter(line for line in said.splitlines() if line.startswith("▸ "))
    assert "▸ 2 processes train together, 4,096 tokens a batch" in lines
    assert sum("stopping early" in line for line in lines) == 1 and set(lines.values()) == {1}


def test_killed_together_they_end_with_the_same_weights(backbone: Path, data: Path, tmp_path: Path) -> None:
    given = {"data": str(data), "backbone": str(backbone), "recipe": Recipe(**(asdict(QUICK) | {"epochs": 3}))}
    code, said = _train(2, tmp_path / "whole", **given)
    assert code == 0, said

    work, checkpoints = tmp_path / "killed", str(tmp_path / "checkpoints")
    killed = _script(2, work, **given, checkpoints=checkpoints, checkpoint_seconds=0.0, pause=0.1)
    assert killed.stdout is not None
    for line in killed.stdout:
        if "epoch 1:" in line:
            break
    time.sleep(0.6)  # a few batches into the second epoch
    _kill_all(killed)
    assert not (work / "out" / "model.safetensors").exists()

    code, said = _train(2, work, **given, checkpoints=checkpoints)
    assert code == 0, said
    assert "going on from the checkpoint in epoch 2, batch" in said and "batch 1\n" not in said
    one, two = _weights(tmp_path / "whole"), _weights(work)
    assert all(np.array_equal(one[name], two[name]) for name in one)  # with dropout, which differs by process
    assert _history(tmp_path / "whole") == _history(work)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def _kill_all(run: subprocess.Popen[str]) -> None:
    """SIGKILL torchrun and its processes, each in a session of its own."""
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    for pid in (run.pid, *map(int, children)):
        os.kill(pid, signal.SIGKILL)
    run.wait()
    assert run.stdout is not None
    run.stdout.close()


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ({"recipe": Recipe(epochs=3, learning_rate=1e30, batch_tokens=128, warmup=0.0)}, "the loss became nan"),
        ({"checkpoints": "CHECKPOINTS", "disk": 50_000}, "cannot be written"),
        ({"disk": 50_000}, "the model cannot be written to"),
        ({"broken_backbone": True}, "backbone /nowhere/at/all"),
        ({"other_data": True}, "process 1 has other data"),
    ],
    ids=["nan", "full-disk", "full-out", "one-lacks-the-backbone", "other-data"],
)
def test_what_stops_one_stops_all_with_one_sentence(
    still: Path, data: Path, tmp_path: Path, trouble: dict[str, Any], sentence: str
) -> None:
    if "checkpoints" in trouble:
        trouble = trouble | {"checkpoints": str(tmp_path / "checkpoints")}
    code, said = _train(2, tmp_path, data=str(data), backbone=str(still), **trouble)
    assert code != 0
    ends = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(ends) == 1 and sentence in ends[0], said
    assert said.count("exitcode  : ") == 2 and "exitcode  : 2 " in said, (
        said
    )  # torchrun's table; it stops who is slower
    assert "finetune.py" not in said
    assert not (tmp_path / "out" / "training.json").exists()


def test_what_nobody_foresaw_ends_all_too(still: Path, data: Path, tmp_path: Path) -> None:
    code, said = _train(2, tmp_path, data=str(data), backbone=str(still), break_on_epoch=True)
    assert code != 0 and "nobody foresaw this" in said


def test_the_program_trains_in_two_processes_and_delivers(still: Path, data: Path, tmp_path: Path) -> None:
    options = {
        "--data": data.as_uri(), "--out": (tmp_path / "out").as_uri(), "--backbone": str(still), "--profile": "fast",
        "--max-length": "32", "--seed": "5", "--checkpoints": str(tmp_path / "checkpoints"),
        "--learning-rate": "5e-3", "--epochs": "2",
    }  # fmt: skip
    run = _start_worker(*(word for pair in options.items() for word in pair))
    code, said = _finish(run)
    assert code == 0, said
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["processes"] == 2 and len(record["history"]) == 2 and record["recipe"]["learning_rate"] == 5e-3
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {
        file.name for file in (tmp_path / "out").iterdir()
    }


def test_the_program_leaves_its_sentence_where_the_model_would_be(still: Path, tmp_path: Path) -> None:
    out = (tmp_path / "out").as_uri()
    nowhere = (tmp_path / "none").as_uri()
    run = _start_worker("--data", nowhere, "--out", out, "--backbone", str(still))
    code, said = _finish(run)
    assert code != 0
    assert said.count(f"error: {nowhere} holds no files") == 1, said
    assert (tmp_path / "out" / "failure.txt").read_text().startswith(f"{nowhere} holds no files")
