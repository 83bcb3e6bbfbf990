"""Who may ask over HTTP: pages of which origins, and callers with which tokens."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from predictor.errors import InputError, one_line
from predictor.tokens import TokenFile

Headers = list[tuple[bytes, bytes]]

_ORIGIN = re.compile(r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
_METHODS = b"GET, POST, DELETE"
_SENT = b"authorization, content-type, inference-header-content-length, x-request-id"
_SHOWN = b"inference-header-content-length, link, location, retry-after, x-request-id"
# Seconds that a browser need not ask again.
_MAX_AGE = b"600"


@dataclass(frozen=True)
class Access:
    """The settings of the HTTP side that say who may ask."""

    tokens: TokenFile | None = None
    """What callers with texts or labels need one of; None where anybody may ask."""
    origins: tuple[str, ...] = ()
    """Of pages whose scripts may read answers; `*` for those of all."""
    ui: bool = False
    """Whether there is a web page for people."""

    @classmethod
    def of(cls, tokens: TokenFile | None, origins: Sequence[str], ui: bool) -> "Access":
        """Check the settings.

        Raises:
            InputError: an origin is not one that a browser would send.
        """
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise InputError(
                    f"--cors-origin {one_line(origin)} is no origin: give scheme, host in lower case and any port, "
                    "as https://app.example.com"
                )
        return cls(tokens, tuple(origins), ui)

    def preflight(self, method: str, headers: Mapping[bytes, bytes]) -> tuple[int, Headers] | None:
        """Return the status and the headers of what a browser asks before a request; None where it asks nothing."""
        if not self.origins or method != "OPTIONS" or b"access-control-request-method" not in headers:
            return None
        if self._allowed(headers.get(b"origin")) is None:
            return 403, []
        return 204, [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _SENT),
            (b"access-control-max-age", _MAX_AGE),
        ]

    def shared(self, headers: Mapping[bytes, bytes]) -> Headers:
        """Return what lets the scripts of a page read the answer to a request, where they may."""
        if not self.origins:
            return []
        vary = [(b"vary", b"Origin")]
        allowed = self._allowed(headers.get(b"origin"))
        if allowed is None:
            return vary
        return [*vary, (b"access-control-allow-origin", allowed), (b"access-control-expose-headers", _SHOWN)]

    def _allowed(self, origin: bytes | None) -> bytes | None:
        if origin is None:
            return None
        if "*" in self.origins:
            return b"*"
        return origin if origin.decode("latin-1") in self.origins else None
