"""The model bundle: the only thing training hands to serving.

A folder that plain `transformers` loads too, with `serving.json` beside the weights. `serving.json` lists the
SHA-256 of every other file, so its own SHA-256 names the whole bundle.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from predictor.errors import InputError
from predictor.text import Cleaning

SCHEMA_VERSION = 1
SPEC_FILE = "serving.json"

Precision = Literal["int8", "fp32", "torch"]
MODEL_FILES: dict[Precision, str] = {
    "int8": "onnx/model_int8.onnx",
    "fp32": "onnx/model.onnx",
    "torch": "model.safetensors",
}


class Reference(BaseModel):
    """How the model answered on the validation split: what later traffic is compared with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_shares: dict[str, float]
    confidence_histogram: list[int]
    """Counts of answers in 20 equal bins of confidence over [0, 1]."""
    token_edges: list[int]
    token_histogram: list[int]
    """Counts of texts whose token count falls below each edge and not below the one before."""


class ServingSpec(BaseModel):
    """The content of `serving.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int
    task: str
    labels: list[str] = Field(min_length=2)
    cleaning: Cleaning
    max_length: int = Field(ge=8)
    pad_token_id: int
    precision: Precision
    precision_reason: str
    temperature: float = Field(gt=0)
    confidence_threshold: float = Field(ge=0, le=1)
    metrics: dict[str, float]
    baseline_accuracy: float
    reference: Reference
    data_digest: str
    versions: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A bundle that was found whole."""

    path: Path
    spec: ServingSpec
    digest: str

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Read a bundle and check every file against `serving.json`.

        Raises:
            InputError: the folder is no bundle, is of another schema version, or was changed after it was sealed.
        """
        file = path / SPEC_FILE
        if not file.is_file():
            what = "has no serving.json" if path.is_dir() else "is not a folder"
            raise InputError(f"{path} {what}: give the folder that `pigeonhole run` printed as bundle")
        raw = file.read_bytes()
        try:
            spec = ServingSpec.model_validate_json(raw)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            raise InputError(f"{file} cannot be read at {where} ({first['msg']}): train the bundle again") from error
        if spec.schema_version != SCHEMA_VERSION:
            raise InputError(
                f"{file} has schema version {spec.schema_version}, this predictor reads {SCHEMA_VERSION}: "
                "serve it with the release that made it, or train again"
            )
        for name, digest in spec.files.items():
            part = path / name
            if not part.is_file():
                raise InputError(f"{path} lacks {name}: copy the whole bundle again")
            if sha256_of(part) != digest:
                raise InputError(f"{part} was changed after the bundle was made: copy the whole bundle again")
        return cls(path, spec, hashlib.sha256(raw).hexdigest())


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(folder: Path, spec: ServingSpec) -> Bundle:
    """Write `serving.json` over the files that are in the folder, and return the finished bundle.

    The file is written last and renamed into place, so a folder with a `serving.json` is a whole bundle. What `spec`
    says of `files` is replaced by what is there.
    """
    for part in (folder, *folder.rglob("*")):
        part.chmod(0o755 if part.is_dir() else 0o644)  # the server runs as another user than the trainer
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {name: sha256_of(folder / name) for name in names if name != SPEC_FILE}
    spec = spec.model_copy(update={"files": files})
    raw = (spec.model_dump_json(indent=2) + "\n").encode()
    aside = folder / f".{SPEC_FILE}.new"
    aside.write_bytes(raw)
    os.replace(aside, folder / SPEC_FILE)
    return Bundle(folder, spec, hashlib.sha256(raw).hexdigest())
