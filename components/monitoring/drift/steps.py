"""The step from files to files, as the command and the pipeline component run it."""

import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from components.monitoring.drift.index import Limits
from components.monitoring.drift.measure import Measured, measure
from components.monitoring.drift.page import render_drift
from components.monitoring.drift.rows import Window
from components.monitoring.drift.verdict import VERDICT_FILE, Verdict
from components.monitoring.drift.windows import answered, logged
from components.monitoring.publish import Places, publish
from components.platform.progress import say
from predictor.errors import InputError, one_line
from predictor.files import whole
from predictor.model.bundle import Bundle

PAGE_FILE, UNLIKE_FILE = "drift.html", "unlike.parquet"
JOB = "pigeonhole-drift"
_MOST_UNLIKE = 500


def drift_of_log(
    out: Path, bundle: Path, url: str, model: str, since: datetime, until: datetime, places: Places, limits: Limits,
    idle: bool = False,
) -> Verdict:  # fmt: skip
    """Compare a span of a prediction log with a bundle's reference; see `drift_to`, and `logged` for `idle`."""
    places.check()
    opened = Bundle.open(bundle)
    return drift_to(out, opened, model, logged(url, model, opened.digest, since, until, idle), places, limits)


def drift_of_file(out: Path, bundle: Path, file: Path, model: str, places: Places, limits: Limits) -> Verdict:
    """Compare a file of texts with a bundle's reference; see `drift_to`."""
    places.check()
    return drift_to(out, Bundle.open(bundle), model, answered(bundle, file), places, limits)


def drift_to(out: Path, bundle: Bundle, model: str, window: Window, places: Places, limits: Limits) -> Verdict:
    """Write verdict.json, drift.html and unlike.parquet (the texts that are most unlike the reference), and publish.

    An earlier verdict is removed first, and the new one is written last and published after that: it stands where the
    other files are those of the same window.

    Args:
        out: a folder, made if it is missing.
        bundle: what answered.
        model: its name in service.
        window: what came in.
        places: where the figures go.
        limits: when a shift counts.

    Raises:
        InputError: a file cannot be read or written.
        Unavailable: the Pushgateway is away; the files are there.
    """
    measured = measure(bundle, model, window, limits)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / VERDICT_FILE).unlink(missing_ok=True)
        with whole(out / PAGE_FILE) as aside:
            aside.write_text(render_drift(measured), encoding="utf-8")
        with whole(out / UNLIKE_FILE) as aside:
            unlike_rows(measured).to_parquet(aside, index=False)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({one_line(error)}): choose another folder") from error
    verdict = measured.verdict
    verdict.save(out / VERDICT_FILE)
    for reason in verdict.reasons:
        say(reason)
    publish(verdict.values(time.time()), JOB, {"model_name": model}, places)
    return verdict


def unlike_rows(measured: Measured) -> pd.DataFrame:
    """Return the texts of the window that are most unlike the reference, the first one most; none where none are known.

    Columns: `id`, `text`, `answer`, `confidence`, `unlike`.
    """
    window, unlike = measured.window, measured.unlike
    columns = ["id", "text", "answer", "confidence", "unlike"]
    if unlike is None:
        return pd.DataFrame(columns=columns)
    order = [row for row in np.argsort(-unlike, kind="stable") if np.isfinite(unlike[row])][:_MOST_UNLIKE]
    rows = [(window.ids[n], window.texts[n], window.answers[n], window.confidence[n], unlike[n]) for n in order]
    return pd.DataFrame(rows, columns=columns)
