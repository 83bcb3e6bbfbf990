"""How many CPUs a process may use, and what OpenMP is told of it."""

import os
from pathlib import Path

import pytest

from predictor.model import cpus


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing to OpenMP; what is set in it goes again."""
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if "OMP_" not in name})
    return monkeypatch


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 64), ("200000 100000", 2), ("50000 100000", 1), ("9900000 100000", 64), ("odd", 64)],
)
def test_available_cpus_are_those_of_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, limit: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(Path, "read_text", lambda path: limit if str(path) == "/sys/fs/cgroup/cpu.max" else "")
    assert cpus.available_cpus() == expected


def test_under_a_quota_openmp_gets_its_number_of_threads(unset: pytest.MonkeyPatch) -> None:
    unset.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    unset.setattr(cpus, "available_cpus", lambda: 2)
    cpus.configure_openmp()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"]) == ("2", "PASSIVE")


def test_without_a_quota_openmp_counts_itself(unset: pytest.MonkeyPatch) -> None:
    unset.setattr(cpus, "available_cpus", lambda: len(os.sched_getaffinity(0)))
    cpus.configure_openmp()
    assert "OMP_NUM_THREADS" not in os.environ


def test_what_is_set_already_stays(unset: pytest.MonkeyPatch) -> None:
    own = {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "7"}
    os.environ.update(own)
    unset.setattr(cpus, "available_cpus", lambda: 0)
    cpus.configure_openmp()
    assert {name: os.environ[name] for name in own} == own
