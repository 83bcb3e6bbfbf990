"""Callers of a service whose versions change under them."""

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

_CALLERS = 4


@dataclass
class Callers:
    """Ask over and over, each time over a connection of its own, as behind a load balancer, and never twice."""

    port: int
    model: str
    texts: Callable[[int], Callable[[], str]]
    """Gives the caller of a number what returns its next text."""
    answers: list[tuple[int, str]] = field(default_factory=list)
    """Status and version; of a failure its status, 0 where there was no answer, and what was said."""
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Callers":
        self._threads = [threading.Thread(target=self._go_on, args=(number,)) for number in range(_CALLERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def failures(self) -> list[tuple[int, str]]:
        return [answer for answer in self.answers if answer[0] != 200]

    def _go_on(self, number: int) -> None:
        text = self.texts(number)
        while not self._over.wait(0.02):
            try:
                self.answers.append(self._ask(text()))
            except (OSError, http.client.HTTPException) as error:
                self.answers.append((0, f"{type(error).__name__}: {error}"))

    def _ask(self, text: str) -> tuple[int, str]:
        body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", f"/v2/models/{self.model}/infer", json.dumps(body), {"Connection": "close"})
            response = connection.getresponse()
            answer = response.read().decode()
        finally:
            connection.close()
        return response.status, str(json.loads(answer)["model_version"]) if response.status == 200 else answer
