"""Tasks for people: the texts of the drifted region whose labels would help the model most."""

from pathlib import Path
from typing import Any

import pandas as pd

from components.labelling.steps import suggest_to
from components.labelling.suggest import NothingToAsk
from components.platform.progress import say
from predictor.errors import InputError
from predictor.model.bundle import MULTI, Bundle


def ask(bundle: Path, labelled: Path, region: Path, folder: Path, budget: int, seed: int) -> dict[str, Any]:
    """Write `tasks.json` and `tasks.xml` for Label Studio into a folder, and return the report of `label suggest`.

    Args:
        bundle: answers the texts.
        labelled: a dataset artifact whose texts are not asked again: the training set with all feedback so far.
        region: the texts of the window that are most unlike the reference, as the drift step wrote them.
        folder: where to; it exists.
        budget: how many texts to pick.
        seed: fixes what is drawn at random.

    Raises:
        InputError: a file cannot be read.
    """
    try:
        rows = len(pd.read_parquet(region, columns=["text"]).dropna())
    except (OSError, ValueError) as error:
        raise InputError(f"{region} cannot be read ({error}): run the drift step again") from error
    if Bundle.open(bundle).spec.problem_type == MULTI:
        say("people are asked for one label a text, and this model gives any number: label the drifted texts by hand")
        return {"asked": 0}
    if not rows:
        say("no text of the window is known, so that people cannot be asked: log texts without redaction")
        return {"asked": 0}
    try:
        return suggest_to(folder / "tasks.json", bundle, region, budget, labelled=[labelled], seed=seed)
    except NothingToAsk:
        say("people have labelled all texts of the drifted region already")
        return {"asked": 0}
