"""The gauges of a batch, for the rule that looks at them."""

import math
import time
from pathlib import Path

from components.monitoring.publish import Places, Value, publish
from components.scoring.manifest import tally_of
from components.scoring.metric_names import BATCH_ACCURACY, BATCH_BASELINE, BATCH_PAUSED, BATCH_TIME
from components.scoring.steps import planned
from components.scoring.store import Store
from components.scoring.work import Entries, pause

_JOB = "pigeonhole-scoring"


def publish_batch(out: str, push_url: str = "", metrics_file: Path | None = None) -> None:
    """Publish how the labelled rows of a batch did so far, and whether it is paused.

    The accuracy is NaN where no labelled row was scored: no rule fires on it.

    Raises:
        InputError: there is no batch, or the place cannot be written.
        Unavailable: the Pushgateway is away.
    """
    if not push_url and metrics_file is None:
        return
    store = Store(out)
    plan = planned(store)
    entries = Entries(store, plan)()
    accuracy = tally_of(plan, entries).accuracy
    values = {
        BATCH_ACCURACY: ("Share of a batch's labelled rows that is right.", math.nan if accuracy is None else accuracy),
        BATCH_BASELINE: ("Accuracy of the bundle when it was made.", plan.baseline),
        BATCH_PAUSED: ("Whether the batch is paused.", float(pause(store, plan, entries) is not None)),
        BATCH_TIME: ("When these figures were published, in Unix seconds.", time.time()),
    }
    label = {"model_name": plan.model}
    figures = [Value(name, value, about, label) for name, (about, value) in values.items()]
    publish(figures, _JOB, label, Places(push_url, metrics_file))
