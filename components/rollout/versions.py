"""Which bundle lies at an address: its name there, checked against what it holds where it can be read from here."""

import hashlib
import re

import fsspec

from components.rollout.rollout import Version
from predictor.bundle import SPEC_FILE
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
    try:
        with fsspec.open(f"{version.uri.rstrip('/')}/{SPEC_FILE}", "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError as error:
        raise InputError(f"there is no bundle at {version.uri}: give the address of one, or store it again") from error
    except ImportError as error:
        raise InputError(
            f"{version.uri} wants a driver ({error}): install it; the one for s3:// comes with pigeonhole[s3]"
        ) from error
    except Exception as error:  # each storage has errors of its own
        reason = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise InputError(f"{version.uri} cannot be read ({reason}): check the address and its key") from error
    if not digest.startswith(version.name):
        raise InputError(
            f"the bundle at {version.uri} has the digest {digest[:12]}, not that of its name: store it again"
        )
