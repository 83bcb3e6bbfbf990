"""Golden texts: the same questions to both versions, before anybody else's go to the canary."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import urllib3

from components.rollout.inference_service import Service
from components.rollout.rollout import Rollout

_BATCH_TEXTS = 32
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Golden:
    """Texts, and how far the versions may disagree on them."""

    texts: Sequence[str]
    most: float = 0.1
    """Share of texts that may get another label."""
    stable_url: str = ""
    canary_url: str = ""
    """Where the versions answer; empty for their addresses inside the cluster."""


def objection(golden: Golden, namespace: str, service: Service, rollout: Rollout) -> str:
    """Ask both versions and return what speaks against the canary; empty if nothing does."""
    stable, canary = _addresses(golden, namespace, service, rollout)
    if not (stable and canary):
        return (
            "the canary has no address of its own for the golden texts: annotate the service with "
            "serving.kserve.io/enable-tag-routing, or give the addresses"
        )
    try:
        before, after = (_labels(url, service.name, golden.texts) for url in (stable, canary))
    except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError) as error:
        return f"the golden texts got no answer ({type(error).__name__} {error})"[:300]
    share = sum(a != b for a, b in zip(before, after, strict=True)) / len(golden.texts)
    return f"{share:.1%} of {len(golden.texts)} golden texts get another label" if share > golden.most else ""


def _addresses(golden: Golden, namespace: str, service: Service, rollout: Rollout) -> tuple[str, str]:
    if service.standard:
        own = f"{service.predictor['name']}-" if service.predictor.get("name") else ""
        stable, canary = (
            f"http://{service.name}-{part}predictor.{namespace}.svc.cluster.local"
            for part in (own, f"{rollout.predictor_name}-")
        )
    else:
        tagged = {target.get("tag"): str(target.get("url", "")) for target in service.revisions.get("traffic") or []}
        stable, canary = tagged.get("prev", ""), tagged.get("latest", "")
    return golden.stable_url or stable, golden.canary_url or canary


def _labels(url: str, model: str, texts: Sequence[str]) -> list[str]:
    found: list[str] = []
    for first in range(0, len(texts), _BATCH_TEXTS):
        batch = list(texts[first : first + _BATCH_TEXTS])
        answer = urllib3.request(
            "POST", f"{url.rstrip('/')}/v1/models/{model}:predict", json={"instances": batch}, timeout=_TIMEOUT_SECONDS,
            retries=urllib3.Retry(3, backoff_factor=0.5, status_forcelist=(429, 503), allowed_methods=None),
        )  # fmt: skip
        rows: list[dict[str, Any]] = json.loads(answer.data)["predictions"]
        found += [str(row["label"]) for row in rows]
    if len(found) != len(texts):
        raise ValueError(f"{len(found)} answers to {len(texts)} texts from {url}")
    return found
