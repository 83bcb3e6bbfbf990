"""The CPU that figures were taken on: kernels and ratios differ from one kind to another."""

import platform
from pathlib import Path

from predictor.model.cpus import available_cpus

# What products of matrices use, by the names of /proc/cpuinfo, the slowest first.
_SETS = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx_vnni": "AVX-VNNI", "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16", "amx_int8": "AMX-INT8", "amx_bf16": "AMX-BF16", "asimd": "NEON",
    "asimddp": "dot product", "i8mm": "I8MM", "bf16": "BF16",
}  # fmt: skip


_INFO = Path("/proc/cpuinfo")


def has_vnni(file: Path = _INFO) -> bool:
    """Whether the CPU multiplies 8-bit integers and adds four products in one instruction."""
    return not {"avx_vnni", "avx512_vnni"}.isdisjoint(_flags(_facts(file)))


def cpu_here(file: Path = _INFO) -> str:
    """Return the CPU's name, family and model, its instruction sets for products, and how many cores may be used."""
    facts = _facts(file)
    flags = _flags(facts)
    sets = [words for flag, words in _SETS.items() if flag in flags]
    kind = [facts.get("model name") or platform.processor() or platform.machine()]
    if "cpu family" in facts:
        kind.append(f"family {facts['cpu family']} model {facts.get('model', '?')}")
    return f"{' '.join(kind)}, {' '.join(sets) or 'no known instruction sets'}, {available_cpus()} cores"


def peak_megabytes(file: Path = Path("/proc/self/status")) -> float:
    """Return the most memory that this process has had, in MB of 1,000,000 bytes.

    Not `ru_maxrss`: a process that was just started has its parent's there.
    """
    (line,) = (line for line in file.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def _facts(file: Path) -> dict[str, str]:
    """Return what the system says of the first CPU."""
    facts: dict[str, str] = {}
    if file.is_file():
        for line in file.read_text().splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    return facts


def _flags(facts: dict[str, str]) -> set[str]:
    return set((facts.get("flags") or facts.get("Features") or "").split())
