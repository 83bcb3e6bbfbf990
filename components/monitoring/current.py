"""What is in service and what it was trained on: where a round of monitoring begins."""

import shutil
from pathlib import Path

from components.monitoring.decision import PASSED, SUBMITTED
from components.monitoring.trainings import read_trainings
from components.platform.progress import say
from components.platform.storage import download, is_remote, read_text
from predictor.errors import InputError
from predictor.files import whole


def fetch_bundle(bundle: str, name: str, tracking_uri: str, folder: Path) -> None:
    """Copy the bundle in service into a folder.

    Args:
        bundle: its folder or URI; empty for that of the champion.
        name: of the registered model.
        tracking_uri: the MLflow server; empty for what the environment says.
        folder: where to.

    Raises:
        InputError: there is no champion, or no bundle.
    """
    where = bundle or _champions(name, tracking_uri)
    _fetch(where, folder)
    say(f"the bundle in service is {where}")


def fetch_dataset(dataset: str, log_url: str, model: str, folder: Path) -> str:
    """Copy the dataset artifact that the next training enlarges into a folder, and return its address.

    It is the one of the last training that this loop started and that passed the gate, or was handed to Kubeflow; if
    there was none, the one that is named.

    Args:
        dataset: the folder or URI of the artifact that the first model was trained on.
        log_url: the folder or URI of the log.
        model: the model's name in the log.
        folder: where to.

    Raises:
        InputError: there is no artifact.
    """
    used = [each.dataset for each in read_trainings(log_url, model) if each.state in (PASSED, SUBMITTED)]
    where = next((place for place in reversed(used) if place and read_text(f"{place}/report.json")), dataset)
    _fetch(where, folder)
    say(f"the dataset is {where}")
    return where


def _fetch(where: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole(folder) as aside:
        if is_remote(where):
            download(where, aside)
        elif Path(where).is_dir():
            shutil.copytree(where, aside)
        else:
            raise InputError(f"{where} is no folder: name what a run wrote")


def _champions(name: str, tracking_uri: str) -> str:
    from mlflow import MlflowClient  # seconds to import

    from components.registry.versions import champion_of

    champion = champion_of(MlflowClient(tracking_uri or None), name)
    if champion is None or not champion.uri:
        raise InputError(f"the model {name} has no champion with a bundle: name one, or train one first")
    return champion.uri
