"""Which bundle lies at an address: its name there, checked against what it holds where it can be read from here."""

import hashlib
import json
import re

from components.rollout.inference_service import Service, address
from components.rollout.state import ModelVersion
from predictor.errors import InputError

_NAME = re.compile(r"[0-9a-f]{12}")
_LABEL = 63
"""Characters of a label, in DNS and in Kubernetes."""
_SHORTEST = 5
# Only KServe's storage initializer, or the pod itself, can read these.
_INSIDE = ("pvc", "oci", "oci+native", "oci+fetch")


def version_at(uri: str) -> ModelVersion:
    """Return the version at an address, going by its last part: bundles are stored under their digest."""
    name = address(uri).rpartition("/")[2]
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{uri} does not end in the twelve digits of a bundle's digest, which name a version: give the address "
            "that the register step printed as bundle_uri"
        )
    return ModelVersion(name, address(uri))


def predictor_name(service: Service, namespace: str, version: ModelVersion) -> str:
    """Return what a canary is called in a Standard service's spec: v and as much of its version as there is room for.

    KServe makes a host's label of the name, and fails without a word in the status where that gets too long.

    Raises:
        InputError: there is no room.
    """
    host = str((service.document.get("status") or {}).get("url") or "").partition("://")[2]
    apart = host.partition(".")[0] == service.name  # the domain template keeps the namespace out of the label
    label = len(f"{service.name}--predictor") + (0 if apart else len(f"-{namespace}"))
    # The pods' label app is isvc. and the Deployment's name.
    room = min(_LABEL - label, _LABEL - len(f"isvc.{service.name}--predictor"))
    if room < _SHORTEST:
        raise InputError(
            f"inferenceservice {service.name} in namespace {namespace} cannot have a canary: KServe calls it "
            f"{service.name}-...-predictor{'' if apart else f'-{namespace}'}, which leaves {max(room, 0)} of {_LABEL} "
            f"characters for its own name, and {_SHORTEST} are needed: serve it under a shorter name"
        )
    return f"v{version.name}"[:room]


def check_bundle(version: ModelVersion) -> None:
    """Refuse an address that holds no bundle, or another than its name says, before a pod waits for it.

    Raises:
        InputError: it is gone, changed, or cannot be read for want of a driver or a key.
    """
    scheme = version.uri.partition("://")[0]
    if scheme in _INSIDE:
        return
    # fsspec and numpy, which a command that only looks at a rollout does without.
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
