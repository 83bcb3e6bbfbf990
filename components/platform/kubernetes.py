"""Connects to a cluster, and reads the API server's reasons."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from predictor.errors import InputError, one_line

REQUEST_SECONDS = 30
# The first is how admission webhooks and policies refuse; the second is how quotas and pod security do.
_ADMISSION = re.compile(r"denied (?:the )?request: *(.+)|is forbidden: (?!User )(.+)")
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Cluster:
    """The API of a cluster, and the namespace to work in."""

    api: client.CustomObjectsApi
    namespace: str


def connect(namespace: str = "", otherwise: str = "") -> Cluster:
    """Return the cluster of the current kubeconfig or, without one, the cluster that this process runs in.

    Args:
        namespace: where to work; if empty, the kubeconfig's or the pod's own namespace, or `default`.
        otherwise: the end of the error, which says what works without a cluster.

    Raises:
        InputError: there is no cluster.
    """
    # Read it here: the client reads KUBECONFIG only once, when its module is imported.
    places = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    try:
        if any(Path(place).is_file() for place in places.split(os.pathsep)):
            config.load_kube_config(places)
            _, active = config.list_kube_config_contexts(places)
            current = active["context"].get("namespace")
        else:
            config.load_incluster_config()
            current = _NAMESPACE_FILE.read_text().strip()
    except (config.ConfigException, OSError) as error:
        reason = one_line(error)
        raise InputError(f"there is no cluster at {places} ({reason}): set KUBECONFIG{otherwise}") from error
    return Cluster(client.CustomObjectsApi(), namespace or current or "default")


def message_of(error: ApiException) -> str:
    """Return the message of the API server's answer on one line, or its reason if there is no message."""
    try:
        text = json.loads(error.body)["message"]
    except (ValueError, KeyError, TypeError):
        text = error.reason
    return one_line(text, most=300)


def refusal_of(error: ApiException) -> str:
    """Return why admission refused an object; empty if the account lacks a permission.

    The API server answers 403 in both cases.
    """
    found = _ADMISSION.search(message_of(error)) if error.status == 403 else None
    return next(filter(None, found.groups())) if found else ""
