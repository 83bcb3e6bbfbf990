"""A request as routes see it, and their answer."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qs

from predictor.errors import BadRequest
from predictor.records import ID_CHARACTERS
from predictor.serving.wire.requests import DEADLINE_HEADER

REQUEST_ID = b"x-request-id"
JSON = (b"content-type", b"application/json")
_DEADLINE = DEADLINE_HEADER.encode()
_MOST_PARAMETERS = 20


@dataclass(frozen=True)
class Asked:
    """A request whose body has arrived."""

    headers: Mapping[bytes, bytes]
    """By name in lower case; `x-request-id` is always there."""
    body: bytes
    query: bytes = b""
    """What follows the question mark of the URL."""
    job: str = ""
    """The id that ends the path; empty where the route has none."""
    client: str = ""
    """Who asks: a key of the bearer token, empty where there are no tokens."""

    @property
    def id(self) -> str:
        """The request's id, as records have it."""
        return self.headers[REQUEST_ID][:ID_CHARACTERS].decode("latin-1")

    @property
    def deadline(self) -> bytes | None:
        """How long a gateway is going to wait, where one says it."""
        return self.headers.get(_DEADLINE)

    @cached_property
    def _parameters(self) -> dict[str, list[str]]:
        try:
            return parse_qs(self.query.decode("utf-8", "replace"), True, max_num_fields=_MOST_PARAMETERS)
        except ValueError:
            raise BadRequest(f"the URL has over {_MOST_PARAMETERS} parameters: send those that are asked for") from None

    def parameter(self, name: str, default: str) -> str:
        """Return a parameter of the URL.

        Raises:
            BadRequest: it is given several times, or there are too many parameters.
        """
        given = self._parameters.get(name, [default])
        if len(given) > 1:
            raise BadRequest(f"the URL has {name} {len(given)} times: send it once")
        return given[0]


@dataclass(frozen=True)
class Answer:
    """What a caller gets."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = (JSON,)
    status: int = 200


Handler = Callable[[Asked], Awaitable[Answer]]
"""Answers a request, or raises a Refusal."""
