"""A real Prometheus on this machine, with data of the past or scraping what runs."""

import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port


def needs_prometheus() -> None:
    if not (shutil.which("prometheus") and shutil.which("promtool")):
        pytest.skip("no prometheus: install Debian's package prometheus")


def backfill(folder: Path, openmetrics: str) -> None:
    """Make a database of samples with timestamps."""
    file = folder / "samples.txt"
    file.write_text(openmetrics + "# EOF\n")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(file), str(folder / "tsdb")]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def prometheus(folder: Path, config: str = "") -> Iterator[str]:
    """Run it over a folder's database and yield its address."""
    port = free_port()
    (folder / "prometheus.yml").write_text(config)
    command = [
        "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/-/ready", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "prometheus ended at once"
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()
