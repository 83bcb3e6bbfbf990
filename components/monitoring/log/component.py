"""KFP components of the prediction log."""

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def compact(log_url: str, model: str) -> int:
    """Compact the days of a prediction log that are over. Never cached: the log grows behind its address.

    Args:
        log_url: the log's folder or URI.
        model: the model's name in the endpoints' paths.

    Returns:
        The number of days that are one file now and were not before.
    """
    from components.monitoring.log.compaction import compact
    from components.platform.progress import say
    from components.platform.termination import one_sentence

    with one_sentence():
        done = compact(log_url, model)
        for part, reason in done.damaged.items():
            say(f"{part} is left as it is: {reason}")
        say(f"{done.records} records of {done.days} days compacted, from {done.parts} parts; {done.copies} copies")
    return done.days


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def import_events(events_url: str, log_url: str, model: str) -> int:
    """Copy what KServe's own logger has stored into a prediction log. Never cached, for the same reason.

    Args:
        events_url: the folder or URI that the logger writes to.
        log_url: the log's folder or URI.
        model: the model's name in the endpoints' paths.

    Returns:
        The number of predictions.
    """
    from components.monitoring.log.kserve_events import import_events
    from components.platform.progress import say
    from components.platform.termination import one_sentence

    with one_sentence():
        done = import_events(events_url, log_url, model)
        say(f"{done.predictions} predictions; {done.unpaired} events without the other half; left out: {done.left}")
    return done.predictions
