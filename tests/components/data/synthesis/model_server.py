"""A server of the tests that speaks OpenAI's chat completions, well or badly as a test wants."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SUBJECTS = ["harbour", "archive", "orchard", "viaduct", "glacier", "lantern", "quarry", "meadow", "furnace", "compass"]


def completion(content: object, tokens: int = 100, finish: str = "stop") -> dict[str, Any]:
    """A body as OpenAI's reference has it."""
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "tiny",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": content, "refusal": None}, "logprobs": None,
             "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": tokens - 40, "completion_tokens": 40, "total_tokens": tokens},
    }  # fmt: skip


def good(number: int, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Ten new texts of the class that was asked for."""
    label = json.loads(re.findall(r'of the class (".*?")\.', asked["messages"][1]["content"])[0])
    lines = [
        json.dumps({"text": f"Report {number}.{n} on the {subject} of {label}, page {n * 7}", "label": label})
        for n, subject in enumerate(SUBJECTS)
    ]
    return 200, completion("\n".join(lines))


@dataclass
class Model:
    url: str
    reply: Callable[[int, dict[str, Any]], Any] = good
    """Of the number of the request and its body: status and body, with headers if any; None for silence."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def model_served() -> Iterator[Model]:
    model = Model("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/chat/completions"
            model.asked.append(body)
            model.headers.append(dict(self.headers))
            reply = model.reply(len(model.asked), body)
            if reply is None:
                model.ended.wait(60)
                return
            status, said, *headers = reply
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers[0] if headers else {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    model.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield model
    finally:
        model.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
