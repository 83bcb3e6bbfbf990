"""Bearer tokens in a file, of which callers need one: Secrets are mounted as files, and renewed in place."""

import hashlib
import hmac
import time
from pathlib import Path

from predictor.errors import InputError, Unauthorised, Unsupported

_MOST_BYTES = 65_536
# A file that was changed so shortly before it was read may change again without another time of change.
_SETTLED_NS = 2 * 10**9


class TokenFile:
    """A file with a token a line, so that two are valid while one is replaced by the next.

    It is looked at for each request, and read when it has changed.

    Args:
        file: the file; it may be missing, and come later.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        self._digests: tuple[bytes, ...] = ()

    def ready(self) -> bool:
        """Whether there is a token to compare with."""
        return bool(self._read())

    def caller(self, header: str) -> str:
        """Return a key of the caller, the same for the same token, from which the token cannot be found.

        Args:
            header: the caller's Authorization header, empty where there is none.

        Raises:
            Unauthorised: it has none of the tokens.
            Unsupported: there is no token to compare with: the file is missing or empty, or holds something else.
        """
        digests = self._read()
        if not digests:
            raise Unsupported("the server has no token to compare with: put one in its token file, one a line")
        scheme, _, sent = header.partition(" ")
        # Digests are of one length, and all are compared: the time tells nothing of a token.
        digest = _digest(sent.strip().encode("latin-1", "replace"))
        same = [hmac.compare_digest(digest, known) for known in digests]
        if scheme.lower() != "bearer" or not any(same):
            raise Unauthorised("the bearer token is missing or wrong: send the header authorization: Bearer TOKEN")
        return digest.hex()[:32]

    def _read(self) -> tuple[bytes, ...]:
        """Return the digests of the tokens; none where the file has anything that is no token."""
        try:
            found = self._file.stat()
            version = (found.st_ino, found.st_size, found.st_mtime_ns)
            if version == self._seen:
                return self._digests
            with self._file.open("rb") as stream:
                content = stream.read(_MOST_BYTES + 1)
        except OSError:
            self._seen, self._digests = None, ()
            return ()
        lines = [line.strip() for line in content.splitlines() if line.strip()]
        sound = len(content) <= _MOST_BYTES and all(len(line.split()) == 1 for line in lines)
        self._digests = tuple(map(_digest, lines)) if sound else ()
        self._seen = version if time.time_ns() - found.st_mtime_ns > _SETTLED_NS else None
        return self._digests


def token_of(file: Path) -> str:
    """Return the first token of a file, for a caller to send.

    Raises:
        InputError: there is none, or it cannot be sent.
    """
    try:
        words = file.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the token file {file} cannot be read ({error}): give a file with a token") from error
    if not words:
        raise InputError(f"the token file {file} is empty: give a file with a token")
    return words[0]


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
