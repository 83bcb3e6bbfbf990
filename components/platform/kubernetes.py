"""What every step that talks to a cluster needs: the way in, and the API server's reason in words."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from predictor.errors import InputError, one_line

REQUEST_SECONDS = 30
# An admission webhook or policy, and what is built into the API server, such as quotas and pod security.
_ADMISSION = re.compile(r"denied (?:the )?request: *(.+)|is forbidden: (?!User )(.+)")
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Cluster:
    """A cluster's API and the namespace to work in."""

    api: client.CustomObjectsApi
    namespace: str


def connect(namespace: str = "", otherwise: str = "") -> Cluster:
    """Return the cluster of the current kubeconfig, or the one this process runs in.

    Args:
        namespace: where to work; empty for the pod's own namespace, else the kubeconfig's, else `default`.
        otherwise: what can be done without a cluster, for the error's end.

    Raises:
        InputError: there is neither.
    """
    # Read now: the client takes KUBECONFIG as it was when its module was loaded.
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
        raise InputError(f"no cluster can be had from {places} ({reason}): set KUBECONFIG{otherwise}") from error
    return Cluster(client.CustomObjectsApi(), namespace or current or "default")


def message_of(error: ApiException) -> str:
    """Return the sentence in the API server's answer, on one line, or the reason where it has none."""
    try:
        text = json.loads(error.body)["message"]
    except (ValueError, KeyError, TypeError):
        text = error.reason
    return one_line(text, most=300)


def refusal_of(error: ApiException) -> str:
    """Return the words of what refused an object at its admission; empty where the account lacks a permission.

    Both are answered with 403.
    """
    found = _ADMISSION.search(message_of(error)) if error.status == 403 else None
    return next(filter(None, found.groups())) if found else ""
