"""Options that several commands share."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.output import Format

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
