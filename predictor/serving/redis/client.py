"""Connections to Redis, which is optional: jobs and the shared cache are kept there."""

from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection

from predictor.errors import InputError

SECONDS = 2.0
"""How long a connection and an answer are waited for."""
_CONNECTIONS = 32
_SCHEMES = ("redis", "rediss", "unix")


def connect(url: str) -> Redis:
    """Return a client of a Redis; nothing is asked of it here, it may be away.

    What was lost with its connection is sent once more, so only commands that may run twice are to be sent.

    Args:
        url: redis://, rediss:// (TLS) or unix://, with a user, a password and the number of a database if need be.

    Raises:
        InputError: it is not such a URL.
    """
    scheme = url.partition("://")[0]
    if scheme not in _SCHEMES:
        raise InputError(
            f"--redis-url is no address of a Redis: begin it with {', '.join(f'{s}://' for s in _SCHEMES)}"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
        if scheme != "unix" and (database := parts.path.strip("/")) and not database.isdecimal():
            raise ValueError("the database is not a number")
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=SECONDS,
            socket_timeout=SECONDS,
            socket_connect_timeout=SECONDS,
            retry=Retry(NoBackoff(), 1, (NoConnection,)),
            protocol=2,
        )
    except (ValueError, TypeError):
        # The error may quote the URL, which holds a password.
        raise InputError(
            f"--redis-url {about(url)} cannot be used: write it as redis://USER:PASSWORD@HOST:6379/0"
        ) from None
    return Redis.from_pool(pool)


def about(url: str) -> str:
    """Return the address for people to read: without user, password and options."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
