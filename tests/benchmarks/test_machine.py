"""What a table says of the CPU."""

from pathlib import Path

import pytest

from predictor.model.cpus import available_cpus
from tests.benchmarks.machine import cpu_here, has_vnni, peak_megabytes

CORES = f"{available_cpus()} cores"


@pytest.mark.parametrize(
    ("info", "said", "vnni"),
    [
        (
            "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 207\nmodel name\t: Some Xeon\n"
            "flags\t\t: fpu avx2 avx512f avx512_vnni\n\nprocessor\t: 1\nmodel name\t: another\n",
            f"Some Xeon family 6 model 207, AVX2 AVX-512 AVX512-VNNI, {CORES}",
            True,
        ),
        ("flags\t\t: avx2\n", f"AVX2, {CORES}", False),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm\n", f"NEON I8MM, {CORES}", False),
    ],
)
def test_the_cpu_is_named_with_its_instruction_sets(tmp_path: Path, info: str, said: str, vnni: bool) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(info)
    assert cpu_here(file).endswith(said) and has_vnni(file) == vnni


def test_a_system_without_cpuinfo_is_named(tmp_path: Path) -> None:
    assert cpu_here(tmp_path / "none").endswith(f", no known instruction sets, {CORES}")


def test_the_peak_of_memory_is_that_of_this_process_alone() -> None:
    import subprocess
    import sys

    held = b"x" * 300_000_000
    code = "from tests.benchmarks.machine import peak_megabytes; print(peak_megabytes())"
    found = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 0 < found < 250 < peak_megabytes() and held
