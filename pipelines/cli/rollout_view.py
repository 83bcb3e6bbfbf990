"""What the commands of a rollout print, read from the cluster."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from components.platform.kubernetes import Cluster
from components.rollout.inference_service import read
from components.rollout.record import load
from components.rollout.state import ENDED, Rollout
from components.rollout.versions import version_at
from predictor.errors import Unavailable

# What the rollout notes for itself.
_HIDDEN = ("judged_since", "looked", "canary_predictor", "stable_predictor", "running", "min_replicas", "max_replicas")
_LOOK_SECONDS = 3.0


def facts(rollout: Rollout) -> dict[str, Any]:
    """Return a rollout's phase, weight, versions and settings, with times as ISO 8601."""
    shown = {key: value for key, value in asdict(rollout).items() if key not in _HIDDEN}
    return {**shown, **{key: _time(shown[key]) for key in ("started", "since")}}


def standing(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return which version a service serves, and its last rollout.

    Raises:
        InputError: there is no such service, or it may not be read.
        Unavailable: the API server does not answer.
    """
    service, record = read(cluster, name), load(cluster, name)
    return {"serves": version_at(service.uri).name, "rollout": facts(record.rollout) if record.rollout else None}


def until_ended(look: Callable[[], dict[str, Any]], pause: float = _LOOK_SECONDS) -> Iterator[dict[str, Any]]:
    """Yield a service's standing every few seconds until no rollout of it goes on.

    An API server that goes away after the first look is asked again, since a rollout goes on meanwhile.

    Raises:
        InputError: there is no such service, or it may not be read.
        Unavailable: the API server does not answer the first time.
    """
    seen = look()
    while True:
        yield seen
        if seen["rollout"] is None or seen["rollout"]["phase"] in ENDED:
            return
        time.sleep(pause)
        try:
            seen = look()
        except Unavailable as error:
            print(f"pigeonhole: {error}; asking again", file=sys.stderr, flush=True)


def versions(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return the versions a service has had, earliest first, with what became of each.

    Raises:
        InputError: there is no such service, or it may not be read.
        Unavailable: the API server does not answer.
    """
    service, record = read(cluster, name), load(cluster, name)
    serves = version_at(service.uri).name
    # A version may have come back; its last entry is the one that serves.
    serving = max((place for place, entry in enumerate(record.history) if entry.version.name == serves), default=None)
    rows = [
        {
            "version": entry.version.name,
            "bundle": entry.version.uri,
            "outcome": entry.outcome,
            "ended": _time(entry.ended),
            "reasons": list(entry.reasons),
            "serves": place == serving,
        }
        for place, entry in enumerate(record.history)
    ]
    return {"service": name, "versions": rows}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
