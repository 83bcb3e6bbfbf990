"""A compiled pipeline: its name, its digest and its parameters."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from predictor.errors import InputError, one_line


@dataclass(frozen=True)
class Package:
    """A file that `pigeonhole compile` wrote."""

    file: Path
    digest: str
    """SHA-256 of the file in hex; compilation is deterministic, so it identifies the pipeline's content."""
    pipeline: str
    """The pipeline's name."""
    title: str
    description: str
    documents: tuple[Mapping[str, Any], ...]
    """The pipeline spec, and the platform spec if there is one."""

    @property
    def version(self) -> str:
        """The version's name.

        It starts with the pipeline's name, since the versions of all pipelines are Kubernetes objects of one namespace.
        """
        return f"{self.pipeline}-{self.digest[:12]}"

    def arguments(self, assignments: Sequence[str]) -> dict[str, Any]:
        """Parse NAME=VALUE assignments into values of the parameters' types.

        Raises:
            InputError: a parameter is unknown, missing, given twice or of another type.
        """
        return arguments_of(self.documents[0], assignments, str(self.file))


def arguments_of(spec: Mapping[str, Any], assignments: Sequence[str], where: str) -> dict[str, Any]:
    """Parse NAME=VALUE assignments into values of the types of a pipeline's parameters.

    Args:
        spec: the pipeline's IR.
        assignments: NAME=VALUE each.
        where: what the pipeline is called in a sentence.

    Raises:
        InputError: a parameter is unknown, missing, given twice or of another type.
    """
    parameters = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise InputError(f"--parameter '{assignment}' has no '=': write --parameter NAME=VALUE")
        if name not in parameters:
            raise InputError(f"--parameter {name} is not one of {where}'s: choose from {', '.join(parameters)}")
        if name in values:
            raise InputError(f"--parameter {name} is given twice: give it once")
        values[name] = _value(name, text, parameters[name]["parameterType"])
    missing = [
        name
        for name, parameter in parameters.items()
        if name not in values and "defaultValue" not in parameter and not parameter.get("isOptional")
    ]
    if missing:
        raise InputError(f"{where} needs {', '.join(missing)}: add --parameter {missing[0]}=VALUE")
    return values


def read_package(file: Path) -> Package:
    """Read a compiled pipeline.

    Raises:
        InputError: the file cannot be read, or is not a compiled pipeline.
    """
    if file.suffix not in (".yaml", ".yml"):  # the server treats other suffixes as archives
        raise InputError(f"{file} is not a .yaml file: name one that pigeonhole compile wrote")
    try:
        content = file.read_bytes()
        documents = tuple(document for document in yaml.safe_load_all(content) if document is not None)
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror}): name a file that pigeonhole compile wrote"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = one_line(error)
        raise InputError(f"{file} is not YAML ({reason}): compile it anew with pigeonhole compile") from None
    if any(isinstance(document, dict) and "kind" in document for document in documents):
        raise InputError(f"{file} is for kubectl apply: name the file that pigeonhole compile wrote beside it")
    try:
        spec = documents[0]
        name, _ = spec["pipelineInfo"]["name"], spec["root"]["dag"]
        title = spec["pipelineInfo"].get("displayName", name)
        description = spec["pipelineInfo"].get("description", "")
    except (LookupError, TypeError, AttributeError):
        raise InputError(f"{file} is not a compiled pipeline: compile one with pigeonhole compile --out DIR") from None
    return Package(file, hashlib.sha256(content).hexdigest(), name, title, description, documents)


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _json_of(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = json.loads(text)
        if not isinstance(value, kind):
            raise ValueError(text)
        return value

    return read


_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "STRING": ("a text", str),
    "NUMBER_INTEGER": ("a whole number", int),
    "NUMBER_DOUBLE": ("a number", float),
    "BOOLEAN": ("true or false", _boolean),
    "LIST": ("a JSON list", _json_of(list)),
    "STRUCT": ("a JSON object", _json_of(dict)),
}


def _value(name: str, text: str, kind: str) -> Any:
    wanted, read = _READERS[kind]
    try:
        value = read(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, KeyError):
        raise InputError(f"--parameter {name} '{text[:80]}' is not {wanted}: correct it") from None
    return value
