"""What the plain REST interface calls a task's answers: the verb in its paths, and the field with the label."""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from predictor.errors import InputError

TAKEN_VERBS = ("models",)
"""`/v1/models` belongs to KServe's protocol."""
TAKEN_FIELDS = (
    "request_id",
    "text",
    "confidence",
    "probabilities",
    "processing_time",
    "model_version",
    "number",
    "error",
)
"""Fields that an answer has beside the label."""


class AnswerNames(BaseModel):
    """The names of a task, in its settings file and in `serving.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verb: str = Field(default="classify", pattern=r"^[a-z][a-z0-9-]*$", max_length=40)
    """Of the path `/v1/VERB`."""
    field: str = Field(default="category", pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    """Of the label; an ordinal task's score is in `FIELD_score`."""

    @model_validator(mode="after")
    def _free(self) -> Self:
        if self.verb in TAKEN_VERBS:
            raise ValueError(f"the verb '{self.verb}' is a path of KServe's protocol: choose another")
        if self.field in TAKEN_FIELDS:
            raise ValueError(f"the field '{self.field}' is another part of the answer: choose another")
        return self

    @classmethod
    def named(cls, values: Mapping[str, str]) -> Self:
        """Make names of a pipeline's parameter.

        Raises:
            InputError: a name cannot be one, or is of nothing that is named.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(["answer", *map(str, first["loc"])])
            raise InputError(f"{where} is wrong ({first['msg']}): correct it as docs/tasks.md says") from None

    @property
    def score(self) -> str:
        """The field of the score."""
        return f"{self.field}_score"
