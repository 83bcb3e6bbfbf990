from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import MISSING, RedisServer, running


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    if MISSING:
        pytest.skip(MISSING)
    with running(tmp_path / "redis") as server:
        yield server
