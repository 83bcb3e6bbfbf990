"""The KFP component of drift."""

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def drift(
    bundle: dsl.Input[dsl.Model],
    verdict: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    name: str,
    log_url: str,
    hours: float = 24.0,
    until: str = "",
    push_url: str = "",
    level: float = 0.01,
    least_size: float = 0.05,
) -> bool:
    """Compare the last hours of the prediction log with the bundle's reference.

    Args:
        bundle: the one in service; answers of others do not count.
        verdict: verdict.json, and the texts most unlike the reference as unlike.parquet.
        page: the report.
        name: the model's name in service, a folder of the log.
        log_url: the prediction log.
        hours: how long the window is.
        until: the end of the window, ISO 8601; empty for now.
        push_url: a Pushgateway; empty for none.
        level: the chance of a false alarm, over all parts.
        least_size: the share of texts that have to have changed.

    Returns:
        Whether the window has drifted.
    """
    from datetime import timedelta
    from pathlib import Path

    from components.monitoring.drift.index import Limits
    from components.monitoring.drift.steps import PAGE_FILE, drift_of_log
    from components.monitoring.drift.windows import instant
    from components.monitoring.publish import Places
    from components.platform.termination import one_sentence

    with one_sentence():
        end = instant(until)
        folder = Path(verdict.path)
        found = drift_of_log(
            folder, Path(bundle.path), log_url, name, end - timedelta(hours=hours), end, Places(push_url),
            Limits(level, least_size), idle=True,
        )  # fmt: skip
        (folder / PAGE_FILE).replace(page.path)
    verdict.metadata.update(drift=found.drift, drifted=found.drifted, rows=found.window.rows)
    return found.drifted
