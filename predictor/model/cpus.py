"""The CPUs of this process: how many it may use, and how the threads of a numerical library share them with others."""

import os
from pathlib import Path


def available_cpus() -> int:
    """Return how many CPUs this process may use, by its affinity and the quota of its cgroup."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cpus
    if quota == "max":
        return cpus
    return max(1, min(cpus, int(quota) // int(period)))


def configure_openmp() -> None:
    """Let the threads of OpenMP sleep while they wait, and be no more than `available_cpus`; what is set already stays.

    OpenMP splits the work of PyTorch and scikit-learn between threads that wait for each other after each operation.
    Those of GCC spin for milliseconds before they sleep. Beside another busy process a thread then spins on a core that
    the thread it waits for needs, and most of the time is lost. OpenMP also starts a thread for each CPU of the
    machine, whatever the quota of the cgroup.

    Call it before torch is imported: OpenMP reads the environment once, when it is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Without a quota OpenMP and MKL count better: they know which CPUs share a core.
    if (cpus := available_cpus()) < len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", str(cpus))
