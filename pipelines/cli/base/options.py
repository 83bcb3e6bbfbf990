"""Options that several commands share."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.base.output import Format
from predictor.errors import InputError

if TYPE_CHECKING:  # kfp takes seconds to import
    from pipelines.kubeflow.client import Login

# Not --output, which predict has for its file.
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format", "-o", envvar="PIGEONHOLE_FORMAT",
        help="How the result is printed.  [default: table at a terminal, json in a pipe]",
    ),
]  # fmt: skip

CheckOption = Annotated[
    list[str] | None,
    typer.Option(
        "--check", metavar="NAME=VALUE",
        help="A limit of the data, such as max_rejected=0.05; the run fails beyond it. Repeatable.",
    ),
]  # fmt: skip
TaskOption = Annotated[
    str,
    typer.Option(
        "--task", envvar="PIGEONHOLE_TASK",
        help="What the classifier is for: a task of the package, such as sentiment, or a settings file (.toml).",
    ),
]  # fmt: skip
ThresholdOption = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold", metavar="NAME=VALUE",
        help="Another threshold of the gate, such as min_class_recall=0.5. Repeatable.",
    ),
]  # fmt: skip
SplitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--split", metavar="NAME=VALUE",
        help="How missing splits are drawn: by=random|time|group, column=NAME, held_out=0.1 and more. Repeatable.",
    ),
]  # fmt: skip
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="NAME=COLUMN", help="What the source calls our column text, label or id; repeatable."
    ),
]
QueryOption = Annotated[str, typer.Option(envvar="PIGEONHOLE_QUERY", help="The SELECT of a sql: source.")]


def assigned(assignments: list[str] | None, option: str) -> dict[str, str]:
    """Return NAME=VALUE assignments of a repeatable option as a mapping.

    Raises:
        InputError: one has no `=`, or a name is given twice.
    """
    values: dict[str, str] = {}
    for assignment in assignments or []:
        name, sign, value = assignment.partition("=")
        if not (name and sign and value):
            raise InputError(f"{option} '{assignment}' is no assignment: write {option} NAME=VALUE")
        if name in values:
            raise InputError(f"{option} {name} is given twice: give it once")
        values[name] = value
    return values


class Switch(StrEnum):
    """Whether something is used."""

    ON = "on"
    OFF = "off"


@dataclass(frozen=True)
class LoginOptions:
    """Where Kubeflow Pipelines is, and who we are to it."""

    host: Annotated[
        str,
        typer.Option(
            envvar=["PIGEONHOLE_HOST", "KF_PIPELINES_ENDPOINT"],
            help="Address of Kubeflow Pipelines; behind the dashboard it ends in /pipeline.",
        ),
    ] = ""
    namespace: Annotated[
        str,
        typer.Option(
            envvar="PIGEONHOLE_NAMESPACE",
            help="Whose runs they are, where Kubeflow has many users.  [default: the pod's own]",
        ),
    ] = ""
    token: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_TOKEN", help="A bearer token; better in the variable than on the line.")
    ] = field(default="", repr=False)
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="PIGEONHOLE_TOKEN_FILE",
            help="A file with a token, read anew for each request.  [default: where Kubeflow mounts one, if it does]",
        ),
    ] = None
    cookie: Annotated[
        str,
        typer.Option(envvar="PIGEONHOLE_COOKIE", help="The Cookie header of a session, NAME=VALUE; as for --token."),
    ] = field(default="", repr=False)
    ca_cert: Annotated[
        Path | None,
        typer.Option(envvar="PIGEONHOLE_CA_CERT", help="PEM file of the server's authority.  [default: public ones]"),
    ] = None

    def checked(self) -> "Login":
        """Return the login.

        Raises:
            InputError: it cannot be one.
        """
        from pipelines.kubeflow.client import Login

        return Login(**vars(self))
