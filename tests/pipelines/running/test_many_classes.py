"""A run with a thousand classes, as users start it."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from transformers import AutoTokenizer

from components.training.backbone import resolve_backbone
from components.training.few_shot.vocabulary_texts import whole_words
from tests.many_classes import many_classes

CLASSES, ROWS = 1000, 20
GIB = 2**30


def _peak(process: "subprocess.Popen[str]") -> int:
    """Return the most bytes that a process and its children hold at a time, until it ends."""
    top, most, ended = psutil.Process(process.pid), 0, threading.Event()
    while process.poll() is None:
        held = 0
        for part in (top, *top.children(recursive=True)):
            try:
                held += part.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        most = max(most, held)
        ended.wait(0.2)
    return most


@pytest.mark.slow(reason="a whole run over 20,000 rows with the real backbone")
def test_a_thousand_classes_are_learnt_in_bounded_memory_and_reported_in_short(tmp_path: Path) -> None:
    words = [word for word in whole_words(AutoTokenizer.from_pretrained(resolve_backbone("minilm"))) if word.isascii()]
    (tmp_path / "data").mkdir()
    many_classes(words, CLASSES, ROWS, seed=1).to_csv(tmp_path / "data" / "train.csv", index=False)
    command = [sys.executable, "-m", "pipelines.cli", "run", "--profile", "fast", "--min-accuracy", "0.05"]
    command += ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    # With as many threads as users have; the tests' own models are too small for more than one.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with (tmp_path / "log").open("w") as log, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
    ) as run:  # fmt: skip
        most = _peak(run)
        printed = run.stdout.read() if run.stdout else ""
    assert run.returncode in (0, 1), (tmp_path / "log").read_text()[-3000:]  # the gate may miss some of the classes
    result = json.loads(printed)
    print(f"{most / GIB:.2f} GiB, accuracy {result['accuracy']:.3f}, baseline {result['baseline_accuracy']:.3f}")
    assert most < 4 * GIB
    assert Path(result["report"]).stat().st_size < 1_000_000
    assert len(printed) < 5_000
    assert result["accuracy"] > 100 / CLASSES and result["baseline_accuracy"] > 100 / CLASSES
