"""What may be the address of a Redis, and what is said of it."""

import pytest

from predictor.errors import InputError
from predictor.serving.redis.client import about, connect


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6379", "http://me:secret@host/0", "redis://me:secret@host:port/0", "redis://me:secret@host/db",
     "redis://me:secret@host:99999/0", "redis://:secret@host/0?socket_timeout=soon"],
)  # fmt: skip
def test_another_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InputError, match="--redis-url") as refused:
        connect(url)
    assert "secret" not in str(refused.value) and refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/1", "redis://host:6379/1"),
        ("rediss://me:secret@host/0?ssl_cert_reqs=none", "rediss://host/0"),
        ("redis://:se@cret@host", "redis://host"),
        ("unix://me:secret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert about(url) == shown
    connect(url)
