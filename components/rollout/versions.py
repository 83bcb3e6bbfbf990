"""Versions by their bundles' addresses, the names of their predictors, and a check of the stored bundle."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from components.platform.kubernetes import REQUEST_SECONDS, Cluster
from components.rollout.inference_service import GROUP, PLURAL, VERSION, Service, address, explained
from components.rollout.record import load
from components.rollout.state import ModelVersion
from predictor.errors import InputError

_NAME = re.compile(r"[0-9a-f]{12}")
_LABEL = 63
"""The most characters of a label, in DNS and in Kubernetes."""
_SHORTEST = 5
# Schemes that only KServe's storage initializer, or the pod itself, can read.
_ONLY_IN_CLUSTER = ("pvc", "oci", "oci+native", "oci+fetch")


def version_at(uri: str) -> ModelVersion:
    """Return the version at an address. Its last part is the version's name: bundles are stored under their digest.

    Raises:
        InputError: the last part is not a digest.
    """
    name = address(uri).rpartition("/")[2]
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{uri} does not end in the twelve digits of a bundle's digest, which name a version: give the address "
            "that the register step printed as bundle_uri"
        )
    return ModelVersion(name, address(uri))


def predictor_name(service: Service, namespace: str, version: ModelVersion) -> str:
    """Return a canary's name in a Standard service's spec: "v" and as much of its version's name as fits.

    KServe puts the name into a label of a host name. If that gets too long, KServe fails without a word in the status.

    Raises:
        InputError: the service's name leaves too few characters.
    """
    host = str((service.document.get("status") or {}).get("url") or "").partition("://")[2]
    without_namespace = host.partition(".")[0] == service.name  # KServe's domain template may say so
    label = len(f"{service.name}--predictor") + (0 if without_namespace else len(f"-{namespace}"))
    # The pods have a label `app`, which is "isvc." and the Deployment's name.
    room = min(_LABEL - label, _LABEL - len(f"isvc.{service.name}--predictor"))
    if room < _SHORTEST:
        raise InputError(
            f"inferenceservice {service.name} in namespace {namespace} cannot have a canary: KServe calls it "
            f"{service.name}-...-predictor{'' if without_namespace else f'-{namespace}'}, which leaves {max(room, 0)} "
            f"of {_LABEL} characters for its own name, and {_SHORTEST} are needed: serve it under a shorter name"
        )
    return f"v{version.name}"[:room]


def services_with(cluster: Cluster, uri: str) -> list[str]:
    """Return the names of the namespace's InferenceServices that serve a bundle or roll it out.

    Raises:
        InputError: the account may not list them.
        Unavailable: the API server does not answer.
    """
    with explained(cluster, "inferenceservices", PLURAL):
        listed = cluster.api.list_namespaced_custom_object(
            GROUP, VERSION, cluster.namespace, PLURAL, _request_timeout=REQUEST_SECONDS
        )["items"]
    users = []
    for document in listed:
        rollout = load(cluster, document["metadata"]["name"]).active
        known = {rollout.stable.uri, rollout.canary.uri} if rollout else set()
        if address(uri) in known or address(uri) in _addresses(document["spec"]):
            users.append(str(document["metadata"]["name"]))
    return users


def _addresses(part: Any) -> set[str]:
    """Return each storageUri in a part of a spec, of the predictor and of its canaries."""
    if isinstance(part, Mapping):
        own = {address(str(part["storageUri"]))} if part.get("storageUri") else set()
        return own.union(*map(_addresses, part.values()))
    return set().union(*map(_addresses, part)) if isinstance(part, list) else set()


def check_bundle(version: ModelVersion) -> None:
    """Check that the bundle with the version's digest is at its address, before a pod tries to load it.

    Raises:
        InputError: it is gone or changed, or cannot be read because a driver or credentials are missing.
    """
    scheme = version.uri.partition("://")[0]
    if scheme in _ONLY_IN_CLUSTER:
        return
    # These load fsspec and numpy, which `status` and `history` do not need.
    from components.platform.storage import names_under, read_text
    from predictor.model.bundle import SPEC_FILE, is_part

    content = read_text(f"{version.uri}/{SPEC_FILE}")
    if not content:
        raise InputError(f"there is no bundle at {version.uri}: give the address of one, or store it again")
    digest = hashlib.sha256(content.encode()).hexdigest()
    if not digest.startswith(version.name):
        raise InputError(
            f"the bundle at {version.uri} has the digest {digest[:12]}, not that of its name: store it again"
        )
    listed = set(json.loads(content).get("files", {}))
    there = {name for name in names_under(version.uri) if is_part(name)}
    if lacking := sorted(listed - there):
        raise InputError(f"the bundle at {version.uri} lacks {lacking[0]}: store it again")
    if more := sorted(there - listed):
        raise InputError(
            f"the bundle at {version.uri} has {more[0]}, which its serving.json does not list, and which a predictor "
            "would refuse: remove it"
        )
