"""The model bundle: the only thing training hands to serving.

A folder that plain `transformers` loads too, with `serving.json` beside the weights. `serving.json` lists the
SHA-256 of every other file, so its own SHA-256 names the whole bundle; a folder with any other file is refused.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from predictor.errors import InputError
from predictor.files import whole
from predictor.model.conformal import Conformal
from predictor.model.ngrams import Unit
from predictor.model.reference import Reference
from predictor.model.text import Cleaning
from predictor.naming import AnswerNames

# To be raised whenever the same fields get another meaning, as when texts are cleaned differently.
SCHEMA_VERSION = 2
SPEC_FILE = "serving.json"
REFERENCE_FILE = "reference.parquet"
"""At most `REFERENCE_ROWS` validation rows with the answers to them, with which later texts are compared."""
REFERENCE_ROWS = 2_000

ProblemType = Literal["single_label_classification", "multi_label_classification"]
"""The names of transformers."""
SINGLE: ProblemType = "single_label_classification"
MULTI: ProblemType = "multi_label_classification"
Precision = Literal["int8", "fp32", "torch"]
MODEL_FILES: dict[Precision, str] = {
    "int8": "onnx/model_int8.onnx",
    "fp32": "onnx/model.onnx",
    "torch": "model.safetensors",
}


class CascadeSpec(BaseModel):
    """What `serving.json` says of the cascade.

    Accuracies and shares are of 1, on rows that neither stage was trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Unit
    temperature: float = Field(gt=0)
    threshold: float = Field(ge=0, le=1)
    """The confidence from which on the linear model answers."""
    rows: int
    share: float
    """Of the rows, those that the linear model answers."""
    accuracy: float
    """Of the two stages together."""
    accuracy_transformer: float
    """Of the transformer alone."""
    accuracy_linear: float
    """Of the linear model alone."""
    most_loss: float
    """The upper end of the one-sided 95% interval of what the cascade loses against the transformer alone."""
    calibration_error: float
    """Of the two stages together."""
    reference: Reference
    """How the two stages answered on the validation split; the tokens are those of the texts that were left."""
    conformal: Conformal | None = None
    """Thresholds of the two stages together; None in bundles that are older than label sets."""


class ServingSpec(BaseModel):
    """The content of `serving.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int
    task: str
    labels: list[str] = Field(min_length=2)
    ordinal: bool = False
    """Whether the labels are steps from the lowest to the highest, so that an answer has a score."""
    answer: AnswerNames = AnswerNames()
    """What the plain REST interface calls the answers; the usual names in bundles that are older than it."""
    problem_type: ProblemType = Field(default=SINGLE, exclude_if=lambda kind: kind == SINGLE)
    """As in `config.json`: whether a text has one label, or any number. It is written only where it is the latter."""
    thresholds: dict[str, float] = Field(default={}, exclude_if=lambda levels: not levels)
    """Of a multi-label model, the probability from which on a text has a label, by label."""
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
    conformal: Conformal | None = None
    """Thresholds of the transformer alone; None in bundles that are older than label sets."""
    data_digest: str
    cascade: CascadeSpec | None = None
    """None where the transformer answers all texts."""
    cascade_reason: str = ""
    versions: dict[str, str]
    files: dict[str, str]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if set(self.thresholds) != (set(self.labels) if self.problem_type == MULTI else set()):
            raise ValueError("thresholds are of each label of a multi-label model, and of no other")
        return self

    @property
    def least(self) -> NDArray[np.float32] | None:
        """The thresholds in the order of the labels, shape (labels,); None where a text has one label."""
        if self.problem_type == SINGLE:
            return None
        return np.array([self.thresholds[label] for label in self.labels], dtype=np.float32)


class _Version(BaseModel):
    """The part of `serving.json` that every release can read."""

    schema_version: int


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were checked."""

    path: Path
    spec: ServingSpec
    digest: str

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Read a bundle and check every file against `serving.json`.

        Raises:
            InputError: the folder is not a bundle, has another schema version, or was changed after it was sealed.
        """
        file = path / SPEC_FILE
        if not file.is_file():
            what = "has no serving.json" if path.is_dir() else "is not a folder"
            raise InputError(f"{path} {what}: give the folder that `pigeonhole run` printed as bundle")
        raw = file.read_bytes()
        spec = _read_spec(file, raw)
        found = part_names(path)
        for name, digest in spec.files.items():
            if name not in found:
                raise InputError(f"{path} lacks {name}: copy the whole bundle again")
            if sha256_of(path / name) != digest:
                raise InputError(f"{path / name} was changed after the bundle was made: copy the whole bundle again")
        if more := sorted(found - set(spec.files)):
            raise InputError(
                f"{path} has {more[0]}, which serving.json does not list: remove it, or copy the whole bundle again"
            )
        return cls(path, spec, hashlib.sha256(raw).hexdigest())


def _read_spec(file: Path, raw: bytes) -> ServingSpec:
    try:
        given = _Version.model_validate_json(raw).schema_version
        if given != SCHEMA_VERSION:
            raise InputError(
                f"{file} has schema version {given}, this predictor reads {SCHEMA_VERSION}: "
                "serve it with the release that made it, or train again"
            )
        return ServingSpec.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise InputError(f"{file} cannot be read at {where} ({first['msg']}): train the bundle again") from error


def is_part(name: str) -> bool:
    """Whether `serving.json` has to list a file of this name, relative to the bundle.

    It does not list itself. Files that a storage or a mount adds under a name that begins with a dot (`..data` of a
    ConfigMap, `.DS_Store`), and `lost+found` of a volume, are not part of a bundle: nothing reads them.
    """
    first, *_ = parts = name.split("/")
    return name != SPEC_FILE and first != "lost+found" and not any(part.startswith(".") for part in parts)


def part_names(folder: Path) -> set[str]:
    """Return the names of a bundle's parts, relative to its folder; links are followed.

    Raises:
        InputError: a link leads out of the folder, or nowhere.
    """
    root = folder.resolve()
    names: set[str] = set()
    seen: set[Path] = set()
    left = [folder]
    while left:
        here = left.pop()
        if here.resolve() in seen:
            continue
        seen.add(here.resolve())
        for entry in here.iterdir():
            name = entry.relative_to(folder).as_posix()
            if not is_part(name):
                continue
            if not entry.resolve().is_relative_to(root) or not entry.exists():
                raise InputError(f"{entry} is a link that leads out of the bundle: copy the file itself")
            if entry.is_dir():
                left.append(entry)
            else:
                names.add(name)
    return names


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(folder: Path, spec: ServingSpec) -> Bundle:
    """Write `serving.json` over the files that are in the folder, and return the finished bundle.

    The file is written last and renamed into place, so a folder with a `serving.json` is a complete bundle. The `files`
    of `spec` are replaced by those in the folder.
    """
    for part in (folder, *folder.rglob("*")):
        part.chmod(0o755 if part.is_dir() else 0o644)  # the server runs as another user than the trainer
    files = {name: sha256_of(folder / name) for name in sorted(part_names(folder))}
    spec = spec.model_copy(update={"files": files})
    raw = (spec.model_dump_json(indent=2) + "\n").encode()
    with whole(folder / SPEC_FILE) as aside:
        aside.write_bytes(raw)
    return Bundle(folder, spec, hashlib.sha256(raw).hexdigest())
