"""The record of a service's rollouts: a ConfigMap that the InferenceService owns, so that both are deleted together.

It is not in annotations of the InferenceService. KServe copies those to its pods' template, so that each change would
restart every pod in Standard mode, and make a new revision in Knative mode.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from kubernetes import client

from components.platform.kubernetes import REQUEST_SECONDS, Cluster
from components.rollout.inference_service import GROUP, VERSION, Missing, Service, explained
from components.rollout.state import ModelVersion, Phase, Rollout, Settings
from predictor.errors import InputError

VERDICT = "pigeonhole/verdict"
"""The ConfigMap's annotation with the last verdict."""
_HISTORY_LENGTH = 50


@dataclass(frozen=True)
class Entry:
    """A version in the history of a service."""

    version: ModelVersion
    outcome: str
    """`promoted`, `rolled back`, or `found` for the version that was served before the first rollout."""
    ended: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """A service's last rollout, active or ended, and the history of its versions, earliest first."""

    rollout: Rollout | None = None
    history: tuple[Entry, ...] = ()
    resource_version: str = ""
    """Of the ConfigMap that was read; empty where there was none."""

    @property
    def active(self) -> Rollout | None:
        """The last rollout if it has not ended."""
        return None if self.rollout is None or self.rollout.ended else self.rollout

    def with_rollout(self, rollout: Rollout) -> "Record":
        """Return the record with a rollout's new state; when it ends, its canary is added to the history."""
        history = self.history
        if not any(entry.version.name == rollout.stable.name for entry in history):
            history = (*history, Entry(rollout.stable, "found", rollout.started))
        if rollout.ended and self.active:
            history = (*history, Entry(rollout.canary, str(rollout.phase), rollout.since, rollout.reasons))
        return replace(self, rollout=rollout, history=history[-_HISTORY_LENGTH:])


def load(cluster: Cluster, name: str) -> Record:
    """Read a service's record.

    Raises:
        InputError: the account may not read it, or its content is not a record.
        Unavailable: the API server does not answer.
    """
    try:
        with explained(cluster, f"configmap {_configmap_name(name)}", "configmaps"):
            found = _core(cluster).read_namespaced_config_map(
                _configmap_name(name), cluster.namespace, _request_timeout=REQUEST_SECONDS
            )
    except Missing:
        return Record()
    try:
        rollout = json.loads(found.data["rollout"])
        history = tuple(
            Entry(**{**e, "version": ModelVersion(**e["version"]), "reasons": tuple(e["reasons"])})
            for e in json.loads(found.data["history"])
        )
        return Record(_rollout(rollout), history, found.metadata.resource_version)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"configmap {_configmap_name(name)} in namespace {cluster.namespace} cannot be read "
            f"({type(error).__name__} {error}): delete it if no rollout goes on, its history is lost then"
        ) from error


def save(cluster: Cluster, service: Service, record: Record) -> Record:
    """Write a record unless it was changed since it was read, and return its new state.

    Raises:
        Conflict: it was changed since.
        InputError: the account may not write it.
        Unavailable: the API server does not answer.
    """
    assert record.rollout is not None
    name, core, rollout = _configmap_name(service.name), _core(cluster), record.rollout
    body: dict[str, Any] = {
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/part-of": "pigeonhole", "app.kubernetes.io/instance": service.name},
            "annotations": {
                VERDICT: f"{rollout.canary.name} {rollout.phase}: {'; '.join(rollout.reasons) or 'nothing yet'}"
            },
            "ownerReferences": [
                {
                    "apiVersion": f"{GROUP}/{VERSION}",
                    "kind": "InferenceService",
                    "name": service.name,
                    "uid": service.document["metadata"]["uid"],
                }
            ],
        },
        "data": {
            "rollout": json.dumps(asdict(rollout)),
            "history": json.dumps([asdict(entry) for entry in record.history]),
        },
    }
    with explained(cluster, f"configmap {name}", "configmaps"):
        if record.resource_version:
            body["metadata"]["resourceVersion"] = record.resource_version
            made = core.replace_namespaced_config_map(name, cluster.namespace, body, _request_timeout=REQUEST_SECONDS)
        else:
            made = core.create_namespaced_config_map(cluster.namespace, body, _request_timeout=REQUEST_SECONDS)
    return replace(record, resource_version=made.metadata.resource_version)


def _rollout(found: Mapping[str, Any]) -> Rollout:
    parts = {
        "stable": ModelVersion(**found["stable"]),
        "canary": ModelVersion(**found["canary"]),
        "phase": Phase(found["phase"]),
        "settings": Settings(**found["settings"]),
        "reasons": tuple(found["reasons"]),
    }
    return Rollout(**{**found, **parts})


def _configmap_name(service: str) -> str:
    return f"{service}-rollout"


def _core(cluster: Cluster) -> client.CoreV1Api:
    return client.CoreV1Api(cluster.api.api_client)
