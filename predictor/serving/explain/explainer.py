"""Explanations: heavier than predictions, so one at a time, in a thread, and PyTorch in a process of its own.

Loading PyTorch holds the interpreter's lock for seconds, and its threads would take the lanes' CPUs. The process starts
with the first text that needs it, has a lower priority than the server, and ends with it.
"""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor.errors import Busy, NotInstalled
from predictor.model.attribution import Attribution, Part, linear_attribution
from predictor.model.bundle import MODEL_FILES
from predictor.model.classifier import Classifier
from predictor.model.gradients import PACKAGES

WORKER = "predictor.serving.explain.worker"
_NOT_INSTALLED = (
    "explanations of the transformer need PyTorch, which this server has not: serve the bundle from an environment "
    "with pigeonhole[serve,explain], or from the image of the steps"
)
# A process that takes longer hangs, even if it has to load PyTorch first on a busy machine.
_MOST_SECONDS = 300.0


class Explainer:
    """Explains the answers of a classifier.

    Args:
        classifier: whose answers.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._spec = classifier.bundle.spec
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._busy = False
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._starting = threading.Lock()

    def check_free(self) -> None:
        """Check that no text is being explained.

        Raises:
            Busy: one is.
        """
        if self._busy:
            raise Busy("another text is being explained: send the request again in 1 s", 1)

    async def explain(self, text: str, row: NDArray[np.float32]) -> dict[str, Any]:
        """Explain the answer to a text.

        Args:
            text: as the caller sent it; not empty after cleaning.
            row: the answer, probabilities of shape (labels,).

        Raises:
            Busy: another text is being explained.
            NotInstalled: the transformer answered, and there is no PyTorch.
        """
        self.check_free()
        self._busy = True
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._explain, text, row)
        work.add_done_callback(self._free)
        # A caller that goes away, or waits no longer, leaves the thread at work: it is busy until that is done.
        return await asyncio.shield(work)

    def _free(self, work: "asyncio.Future[dict[str, Any]]") -> None:
        self._busy = False
        if not work.cancelled():
            work.exception()  # seen, even where the caller has gone

    def close(self) -> None:
        """End the process and the thread."""
        with self._starting:  # the thread of a caller who has gone may be about to start one
            self._closed = True
            if process := self._process:
                process.kill()
        self._thread.shutdown(cancel_futures=True)
        self._stop()

    def _explain(self, text: str, row: NDArray[np.float32]) -> dict[str, Any]:
        classifier = self._classifier
        (cleaned,) = classifier.encoder.clean([text])
        best = int(row.argmax())
        answer = {"text": cleaned, "label": classifier.labels[best], "confidence": float(row[best])}
        if classifier.cascade and classifier.cascade([cleaned])[1][0]:
            found = linear_attribution(classifier.cascade, cleaned, best)
            return {**answer, "stage": "linear", **_written(found, cleaned)}
        found, probabilities = self._asked(cleaned, best)
        top = int(np.argmax(probabilities))
        weights = {
            "precision": "fp32",
            "label": classifier.labels[top],
            "confidence": probabilities[best],
            "same_label": top == best,
        }
        served = classifier.precision
        return {**answer, "stage": "transformer", "served": served, "explained": weights, **_written(found, cleaned)}

    def _asked(self, cleaned: str, label: int) -> tuple[Attribution, list[float]]:
        """Ask the process for an attribution, and for the probabilities of the weights that it explains."""
        process = self._started()
        assert process.stdin and process.stdout
        patience = threading.Timer(_MOST_SECONDS, process.kill)
        patience.start()
        try:
            process.stdin.write(json.dumps({"text": cleaned, "label": label}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:  # it ended before it had read all of a long text
            line = ""
        finally:
            patience.cancel()
        if not line:
            self._stop()
            raise RuntimeError(f"the process that explains ended with {process.returncode}: its own words are above")
        said: Mapping[str, Any] = json.loads(line)
        tokens, words = ([Part(**part) for part in said["attribution"].pop(name)] for name in ("tokens", "words"))
        return Attribution(**said["attribution"], tokens=tokens, words=words), said["probabilities"]

    def _started(self) -> "subprocess.Popen[str]":
        """Return the process, which is started where there is none.

        Raises:
            NotInstalled: it cannot be.
        """
        if self._process and self._process.poll() is None:
            return self._process
        self._stop()
        files = self._classifier.bundle.spec.files
        if MODEL_FILES["torch"] not in files or any(find_spec(name) is None for name in PACKAGES):
            raise NotInstalled(_NOT_INSTALLED)
        with self._starting:
            if self._closed:
                raise RuntimeError("no process is started any more: the server has stopped")
            self._process = subprocess.Popen(
                [sys.executable, "-m", WORKER, str(self._classifier.bundle.path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
            )  # fmt: skip
            return self._process

    def _stop(self) -> None:
        """Close what is left of the process."""
        if process := self._process:
            self._process = None
            process.kill()
            for stream in (process.stdin, process.stdout):
                if stream:
                    with suppress(BrokenPipeError):  # of what it has not read
                        stream.close()
            process.wait()


def _written(found: Attribution, cleaned: str) -> dict[str, Any]:
    """Return an attribution as JSON has it, each part with its text."""
    written = asdict(found)
    for name in ("tokens", "words"):
        written[name] = [{"text": cleaned[part["start"] : part["end"]], **part} for part in written[name]]
    return written
