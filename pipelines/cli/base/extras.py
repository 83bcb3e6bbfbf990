"""A command whose extra is not installed says so in one sentence."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from predictor.errors import InputError

EXTRAS = {
    "run": "train",
    "tune": "train",
    "train-worker": "train",
    "trial": "train",
    "compile": "pipelines",
    "submit": "pipelines",
    "schedule": "pipelines",
    "serve": "serve",
    "predict": "client",
    "score": "score",
    "label": "label",
    "rollout": "rollout",
    "data": "train",
    "models": "models",
    "monitor": "monitor",
    "trigger": "trigger",
}
"""What to install for a command; each command of kubectl's plugin is one of the rollout."""

_OTHER_NAMES = {
    "crowdkit": "crowd-kit",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc-health": "grpcio-health-checking",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Packages by the module to import, where the names differ."""


@contextmanager
def missing_extra_named() -> Iterator[None]:
    """Say which extra has a package that is not installed.

    Raises:
        InputError: such a package is imported here; any other module that is not found is a bug of ours.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0].lower().replace("_", "-")
        declaring = _declaring(_OTHER_NAMES.get(module, module))
        if not declaring:
            raise
        command = sys.argv[1] if len(sys.argv) > 1 else ""
        own = EXTRAS.get(command, "rollout")
        extra = own if own in declaring else declaring[0]
        raise InputError(
            f"{error.name} is not installed, which '{command}' needs: pip install 'pigeonhole[{extra}]'"
        ) from error


def _declaring(package: str) -> list[str]:
    """Return the extras that declare a package, in the order of pyproject.toml."""
    requirements = [
        re.match(r"""([\w.-]+).*extra == ['"](\w+)""", text) for text in metadata.requires("pigeonhole") or ()
    ]
    return [found[2] for found in requirements if found and found[1].lower().replace("_", "-") == package]
