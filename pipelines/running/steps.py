"""Run the steps of a pipeline on one machine, in the current Python environment, and say how they ended."""

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kfp import local

from components.platform.termination import FILE_VARIABLE, UNAVAILABLE_SUFFIX
from pipelines.running.console import Console
from predictor.errors import InputError, StepFailed, Unavailable

LOG_FILE = "run.log"
LOG_TAIL = 40
_FAILED = re.compile(r"Task .* finished with status .*FAILURE")


def run_steps(
    pipeline: Callable[..., Any], outputs: Sequence[str], work: Path, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Run a pipeline in the folder `work`, which gets `run.log`, and return its outputs; artifacts as their paths.

    Args:
        pipeline: a KFP pipeline.
        outputs: the names of its outputs.
        work: an empty folder.
        parameters: values of its parameters.

    Raises:
        InputError: a step rejected its input.
        Unavailable: what a step needs from elsewhere is away.
        StepFailed: a step failed for another reason.
    """
    for name, value in {"--out": str(work), **parameters}.items():
        if isinstance(value, str) and "python3" in value:
            # kfp 2.17 replaces this word by the interpreter's path in all arguments of a step.
            raise InputError(f"{name} {value} contains 'python3', which kfp's local runner rewrites: use another path")
    sentence = work / "termination-message"
    with Console(work / LOG_FILE, sys.stderr) as console, _environment({FILE_VARIABLE: str(sentence)}):
        try:
            with contextlib.redirect_stdout(console), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # kfp warns of settings that have no effect outside a cluster
                local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(work), raise_on_error=True)
                task = pipeline(**parameters)
        except RuntimeError as error:
            if sentence.exists():
                raise InputError(sentence.read_text(encoding="utf-8")) from None
            if (away := sentence.with_suffix(UNAVAILABLE_SUFFIX)).exists():
                raise Unavailable(away.read_text(encoding="utf-8")) from None
            console.flush()
            raise StepFailed(end_of_failed_step((work / LOG_FILE).read_text(encoding="utf-8"))) from error
    found = {name: task.outputs[name] for name in outputs}
    return {name: value.path if hasattr(value, "path") else value for name, value in found.items()}


def end_of_failed_step(log: str) -> str:
    """Return the last log lines of the failed step; others may follow, since an exit handler always runs."""
    lines = log.splitlines()
    end = next((number for number, line in enumerate(lines, start=1) if _FAILED.search(line)), len(lines))
    return "\n".join(lines[max(0, end - LOG_TAIL) : end])


@contextlib.contextmanager
def _environment(extra: dict[str, str]) -> Iterator[None]:
    """Set variables that the steps' processes inherit: unbuffered output, no tqdm bars, no telemetry."""
    extra = {"PYTHONUNBUFFERED": "1", "TQDM_DISABLE": "1", "MLFLOW_DISABLE_TELEMETRY": "true", **extra}
    before = {name: os.environ.get(name) for name in extra}
    os.environ.update(extra)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
