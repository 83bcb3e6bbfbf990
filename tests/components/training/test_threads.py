"""What PyTorch's OpenMP has been told in each process that trains: it prints what it read when it is loaded."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow(reason="loads PyTorch in thirteen processes")

# What each process that trains imports before torch, in this order; torch is imported next, where it is not yet.
_ENTRIES = {
    "step": "import components.platform.tracking, components.training.job",
    "trial": "import components.tuning.trial",
    "train-worker": "import components.training.distributed.train_worker",
    "benchmark": "import tests.benchmarks.train",
    "torch engine": (
        "from pathlib import Path; from contextlib import suppress; from predictor.model.engine import TorchEngine\n"
        "with suppress(OSError): TorchEngine(Path('/no/model'), 0)"
    ),
}
_GOMP = pytest.mark.skipif(
    not any(Path(torch.__file__).parent.rglob("libgomp*")), reason="this PyTorch does not carry GCC's OpenMP"
)


def _environment(script: str, **own: str) -> dict[str, str]:
    """Run a script with these variables and return what OpenMP prints, with the number of PyTorch's threads."""
    env = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    end = "\nimport sys, torch; print('threads', '=', repr(str(torch.get_num_threads())), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script + end], capture_output=True, text=True, check=True,
        env={**env, "OMP_DISPLAY_ENV": "verbose", **own},
    )  # fmt: skip
    # scikit-learn's wheel has an OpenMP of its own, which may be loaded first.
    return dict(re.findall(r"(\w+) = '(.*)'", done.stderr))


@_GOMP
@pytest.mark.parametrize("entry", _ENTRIES)
def test_threads_that_wait_sleep_wherever_torch_computes(entry: str) -> None:
    assert _environment(_ENTRIES[entry])["GOMP_SPINCOUNT"] == "0"


_SHORTEST = "import components.training"


@_GOMP
@pytest.mark.parametrize(
    ("own", "spins"),
    [
        ({"OMP_WAIT_POLICY": "ACTIVE"}, 30_000_000_000),
        ({"GOMP_SPINCOUNT": "5"}, 5),
    ],
)
def test_a_users_way_of_waiting_stays(own: dict[str, str], spins: int) -> None:
    assert int(_environment(_SHORTEST, **own)["GOMP_SPINCOUNT"]) == spins


def test_torch_takes_no_more_threads_than_the_quota_allows() -> None:
    limited = (
        "from predictor.model import cpus\n"
        "cpus.available_cpus, cpus.os.sched_getaffinity = lambda: 1, lambda pid: range(64)\n"
    )
    assert _environment(limited + _SHORTEST)["threads"] == "1"
    twice = {"OMP_NUM_THREADS": "2"}  # torchrun's, or the user's
    assert _environment(limited + _SHORTEST, **twice)["threads"] == _environment("", **twice)["threads"]


def test_without_a_quota_torch_takes_as_many_threads_as_it_would_alone() -> None:
    unlimited = "from predictor.model import cpus; cpus.available_cpus = lambda: len(cpus.os.sched_getaffinity(0))\n"
    assert _environment(unlimited + _SHORTEST)["threads"] == _environment("")["threads"]
