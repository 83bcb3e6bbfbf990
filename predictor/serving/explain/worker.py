"""The process that explains the transformer's answers: a text a line comes in, an attribution a line goes out."""

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from predictor.model.bundle import Bundle
from predictor.model.cpus import available_cpus
from predictor.model.gradients import Gradients

_LOWER_PRIORITY = 5


def main() -> None:
    """Answer until stdin is closed, as it is when the server ends."""
    os.nice(_LOWER_PRIORITY)
    for sent in (signal.SIGINT, signal.SIGTERM):  # to all processes at once; the server ends it, when it has drained
        signal.signal(sent, signal.SIG_IGN)
    os.environ["TQDM_DISABLE"] = "1"
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    bundle = Bundle.open(Path(sys.argv[1]))
    gradients = Gradients(bundle.path, bundle.spec, available_cpus())
    for line in sys.stdin:
        asked = json.loads(line)
        attribution, probabilities = gradients(asked["text"], asked["label"])
        said = {"attribution": asdict(attribution), "probabilities": probabilities.tolist()}
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()
