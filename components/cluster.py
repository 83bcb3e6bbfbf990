"""What every step that talks to a cluster needs: the way in, and the API server's reason in words."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from predictor.errors import InputError

REQUEST_SECONDS = 30
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
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"no cluster can be had from {places} ({reason}): set KUBECONFIG{otherwise}") from error
    return Cluster(client.CustomObjectsApi(), namespace or current or "default")


def message_of(error: ApiException) -> str:
    """Return the sentence in the API server's answer, on one line, or the reason where it has none."""
    try:
        text = json.loads(error.body)["message"]
    except (ValueError, KeyError, TypeError):
        text = error.reason
    return " ".join(str(text).split())[:300]


def is_denied_by_webhook(error: ApiException) -> bool:
    """Say whether an admission webhook refused an object, which is a 403 as well and has nothing to do with roles."""
    return "denied the request" in message_of(error)
