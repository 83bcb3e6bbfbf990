"""A stand-in for a predictor, and a client that does not wait for it."""

from collections.abc import Iterator

import pytest

from predictor.client import Server, retry
from tests.fakes.predictor import Fake, serving


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_PAUSES", (0.01, 0.0, 0.0))


@pytest.fixture
def fake(short_pauses: None) -> Iterator[tuple[Fake, Server]]:
    made = Fake()
    with serving(made) as url:
        yield made, Server.at("v2", url, "toy")
