"""A predictor over REST that answers as a test wants, busy and broken ones among them.

The client that asks it here asks the real server in `tests/pipelines/cli/test_predict.py`.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Fake:
    """Each request takes the next of `answers`, the last one again and again.

    An answer is (status, headers, body); without a body it is the right one, with the labels that `label` gives.
    """

    def __init__(self, label: Callable[[str], str] = str.upper) -> None:
        self.label = label
        self.answers: list[tuple[int, dict[str, str], str | None]] = [(200, {}, None)]
        self.paths: list[str] = []
        self.asked: list[list[str]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.gate: Callable[[], object] = lambda: None
        self.token = ""

    def answer(self, path: str, body: dict[str, Any], authorization: str) -> tuple[int, dict[str, str], str]:
        if self.token and authorization != f"Bearer {self.token}":
            return 401, {}, json.dumps({"error": "the bearer token is missing or wrong"})
        texts: list[str] = body["instances"] if "instances" in body else body["inputs"][0]["data"]
        with self.lock:
            self.paths.append(path)
            self.asked.append(texts)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            status, headers, given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.gate()
        with self.lock:
            self.at_once -= 1
        return status, headers, json.dumps(self._right(texts, "instances" in body)) if given is None else given

    def _right(self, texts: list[str], v1: bool) -> dict[str, Any]:
        labels = [self.label(text) for text in texts]
        if v1:
            return {"predictions": [{"label": label, "confidence": 0.5} for label in labels], "model_version": "1"}
        outputs = [{"name": "label", "data": labels}, {"name": "confidence", "data": [0.5 for _ in labels]}]
        return {"outputs": outputs, "model_version": "1"}


@contextmanager
def serving(fake: Fake) -> Iterator[str]:
    """Serve on a free port and give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, headers, answer = fake.answer(self.path, body, self.headers.get("authorization", ""))
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(answer.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
