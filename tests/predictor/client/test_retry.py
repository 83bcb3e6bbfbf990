"""A busy server is asked again, when it says, and not for ever."""

import threading
from email.utils import formatdate

import pytest

from predictor.client import Server, ask, rest, retry
from predictor.client.retry import retried
from predictor.errors import Unavailable
from tests.fakes.predictor import Fake


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(fake: tuple[Fake, Server], status: int) -> None:
    made, server = fake
    made.answers = [(status, {}, '{"error": "full"}')] * 3 + [(200, {}, None)]
    (answers,) = ask(server, ["a"])
    assert answers.labels == ["A"] and len(made.asked) == 4
    made.answers = [(status, {}, '{"error": "full"}')]
    with pytest.raises(Unavailable, match=rf"answers {status} \(full\): look at the server or try later"):
        list(ask(server, ["a"]))
    assert len(made.asked) == 4 + 4


class _Waits(threading.Event):
    """Keeps how long it should have waited, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout)
        return False


def test_the_server_says_how_long_to_wait(fake: tuple[Fake, Server]) -> None:
    made, server = fake
    waits = _Waits()
    for header in ("7", formatdate(0, usegmt=True), "soon"):
        made.answers = [(503, {"Retry-After": header}, "{}"), (200, {}, None)]
        with rest.connected(server) as ask_once:
            assert retried(lambda: ask_once(["a"]), waits).labels == ["A"]
    assert waits.asked == [7.0, 0.0, retry._PAUSES[0]]  # a date that has passed; words, which say nothing


def test_a_wait_beyond_all_patience_is_not_begun(fake: tuple[Fake, Server]) -> None:
    made, server = fake
    made.answers = [(429, {"Retry-After": "86400"}, "later")]
    with pytest.raises(Unavailable, match=r"answers 429 \(later\), and asks to wait 86400 s: look"):
        list(ask(server, ["a"]))
    assert len(made.asked) == 1
