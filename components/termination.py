"""How a step says in one sentence why it stopped."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from predictor.errors import InputError

# Kubernetes shows the content of /dev/termination-log in `kubectl describe pod`; the local runner names its own file.
FILE_VARIABLE = "PIGEONHOLE_TERMINATION_LOG"
_KUBERNETES_FILE = "/dev/termination-log"


@contextmanager
def one_sentence() -> Iterator[None]:
    """End the step with exit code 2 and its sentence as termination message when the input was bad."""
    try:
        yield
    except InputError as error:
        file = Path(os.environ.get(FILE_VARIABLE, _KUBERNETES_FILE))
        if FILE_VARIABLE in os.environ or file.exists():
            file.write_text(str(error), encoding="utf-8")
        print(f"error: {error}", flush=True)
        raise SystemExit(2) from None
