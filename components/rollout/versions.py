"""Which bundle lies at an address: its name there, checked against what it holds where it can be read from here."""

import hashlib
import json
import re

from components.rollout.rollout import Version
from components.staging import names_under, read_text
from predictor.bundle import SPEC_FILE, is_part
from predictor.errors import InputError

_NAME = re.compile(r"[0-9a-f]{12}")
# Only KServe's storage initializer, or the pod itself, can read these.
_INSIDE = ("pvc", "oci", "oci+native", "oci+fetch")


def version_at(uri: str) -> Version:
    """Return the version at an address, going by its last part: bundles are stored under their digest."""
    name = uri.rstrip("/").rpartition("/")[2]
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{uri} does not end in the twelve digits of a bundle's digest, which name a version: give the address "
            "that the register step printed as bundle_uri"
        )
    return Version(name, uri)


def check_bundle(version: Version) -> None:
    """Refuse an address that holds no bundle, or another than its name says, before a pod waits for it.

    Raises:
        InputError: it is gone, changed, or cannot be read for want of a driver or a key.
    """
    scheme = version.uri.partition("://")[0]
    if scheme in _INSIDE:
        return
    content = read_text(f"{version.uri.rstrip('/')}/{SPEC_FILE}")
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
