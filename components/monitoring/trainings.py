"""The trainings that this loop started, a small file each, where every round finds them."""

import json
from dataclasses import asdict
from datetime import UTC, datetime

from components.monitoring.decision import Training
from components.platform.progress import say
from components.platform.storage import names_under, read_text, write_text

_FOLDER = "trainings"


def read_trainings(log_url: str, model: str) -> list[Training]:
    """Return the trainings of a model, the earliest first; a file that is none is left out, and said.

    Args:
        log_url: the folder or fsspec URI of the log.
        model: the model's name in the log.

    Raises:
        InputError: the storage cannot be read.
    """
    folder = _folder(log_url, model)
    found = []
    for name in sorted(names_under(folder)):
        if not name.endswith(".json"):
            continue
        try:
            found.append(Training(**json.loads(read_text(f"{folder}/{name}"))))
        except (ValueError, TypeError):
            say(f"{folder}/{name} is no record of a training, and does not count")
    return sorted(found, key=lambda training: training.started)


def write_training(log_url: str, model: str, training: Training) -> None:
    """Write a training, whole or not at all, in the place of what was said of it before.

    It is written before the training starts, so that one that is killed counts, too.
    """
    at = datetime.fromtimestamp(training.started, UTC).strftime("%Y%m%dT%H%M%S.%f")
    write_text(
        f"{_folder(log_url, model)}/{at}-{training.digest[:12]}.json", json.dumps(asdict(training), indent=2) + "\n"
    )


def _folder(log_url: str, model: str) -> str:
    return f"{log_url.rstrip('/')}/{model}/{_FOLDER}"
