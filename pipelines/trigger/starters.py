"""How the trigger starts a round of monitoring: as a process here, or as a run on Kubeflow."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.trigger.state import Run
from predictor.errors import PigeonholeError, StepFailed, Unavailable, one_line

if TYPE_CHECKING:  # kfp takes seconds to import
    from pipelines.kubeflow.client import Login

_LOOK_SECONDS, _PAUSE_SECONDS = 1.0, 10.0
"""How long a run on Kubeflow is looked at, and then left alone, until it has ended."""


class Interrupted(Exception):
    """The trigger ends, and the run is to be started again by the next one."""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    answer: str
    """Its decision; empty where it cannot be known here."""
    detail: dict[str, Any]


class Starter(Protocol):
    """Starts a run and waits for its end."""

    def __call__(self, run: Run, handed_over: Callable[[str], None], ending: threading.Event) -> Ended:
        """Run it.

        Args:
            run: what to run, and why.
            handed_over: gets the id of a run on Kubeflow as soon as there is one.
            ending: set when the trigger is asked to end.

        Raises:
            PigeonholeError: it broke.
            Interrupted: the trigger ends.
        """


class Here:
    """Runs `pigeonhole monitor run` in a process of its own.

    Args:
        options: of the command.
    """

    def __init__(self, options: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", "pipelines.cli", "monitor", "run", *options, "--format", "json"]

    def __call__(self, run: Run, handed_over: Callable[[str], None], ending: threading.Event) -> Ended:
        """Run the command, and end it if the trigger ends."""
        command = [*self._command, "-p", f"alert={run.cause}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
            while True:
                try:
                    printed, _ = process.communicate(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    if ending.is_set():
                        process.terminate()  # it stops its steps, too
                        process.communicate()
                        raise Interrupted from None
        if ending.is_set() and process.returncode not in (0, 1):
            raise Interrupted
        if process.returncode not in (0, 1) or not printed:  # a traceback ends with 1, too, and prints no result
            raise StepFailed(f"pigeonhole monitor run ended with exit code {process.returncode}")
        detail = json.loads(printed)
        return Ended(str(detail["answer"]), detail)


class OnKubeflow:
    """Submits the compiled monitoring pipeline, and waits for the run.

    Args:
        login: to Kubeflow Pipelines.
        file: what `pigeonhole compile` wrote.
        parameters: of the pipeline, NAME=VALUE each.
        experiment: what Kubeflow groups the runs under.
        service_account: what the steps run as; empty for the installation's default.
    """

    def __init__(
        self, login: "Login", file: Path, parameters: Sequence[str], experiment: str, service_account: str
    ) -> None:
        from pipelines.kubeflow.package import read_package

        self._login, self._package = login, read_package(file)
        self._package.arguments([*parameters, "alert="])  # wrong ones end the trigger at its start
        self._parameters, self._experiment, self._service_account = list(parameters), experiment, service_account

    def __call__(self, run: Run, handed_over: Callable[[str], None], ending: threading.Event) -> Ended:
        """Submit the pipeline, unless that was done, and wait; a run goes on if the trigger ends."""
        from pipelines.kubeflow import submission
        from pipelines.kubeflow.client import connect

        remote = run.remote
        if not remote:
            kubeflow = connect(self._login)
            version = submission.upload(kubeflow, self._package)
            arguments = self._package.arguments([*self._parameters, f"alert={run.cause}"])
            remote = submission.start(kubeflow, version, arguments, self._experiment, self._service_account)
            handed_over(remote)
        while True:
            try:
                found = submission.wait(connect(self._login), remote, submission.Polling(timeout=_LOOK_SECONDS))
                break
            except Unavailable:  # it goes on, or Kubeflow is away, maybe since before the trigger began
                if ending.wait(_PAUSE_SECONDS):
                    raise Interrupted from None
        if found.state != "SUCCEEDED":
            failed = ", ".join(submission.failures(found))
            raise Unavailable(f"the run {remote} on Kubeflow is {found.state} ({failed}): look at it there")
        return Ended("", {"run": remote})


def sentence_of(error: Exception) -> str:
    """Return an error for the record of a run."""
    said = error.log if isinstance(error, StepFailed) else str(error)
    return one_line(said if isinstance(error, PigeonholeError) else f"{type(error).__name__}: {said}", 500)
