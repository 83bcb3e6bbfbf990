"""A site of the tests: a real HTTP server on loopback that serves what a test puts into it, and counts requests."""

import gzip
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SENTENCES = (
    "The committee met on {0} to discuss what the report about {0} had left open for months. ",
    "Nobody expected that {0} would become the matter on which so many people had to agree. ",
    "After a long evening the members voted, and the plan for {0} was accepted by a small majority. ",
)


def article(topic: str, *links: str, head: str = "") -> bytes:
    """A page with an article about a topic, a menu and links."""
    text = "".join(f"<p>{' '.join(sentence.format(topic) for _ in range(2))}</p>" for sentence in SENTENCES)
    menu = "".join(f'<li><a href="{link}">{number}</a></li>' for number, link in enumerate(links))
    return (
        f"<!doctype html><html><head><title>{topic}</title>{head}</head><body><nav><ul>{menu}</ul></nav>"
        f"<article><h1>About {topic}</h1>{text}</article><footer>All rights reserved.</footer></body></html>"
    ).encode()


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/html"})
    write: Callable[[BaseHTTPRequestHandler], None] | None = None
    """Writes the body where it is not just bytes."""


@dataclass
class Site:
    """Pages by path; what is not there gets a 404."""

    port: int = 0
    pages: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)

    def __setitem__(self, path: str, page: bytes | Answer) -> None:
        self.pages[path] = Answer(page) if isinstance(page, bytes) else page

    def at(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def redirect(self, path: str, target: str) -> None:
        self[path] = Answer(status=302, headers={"Location": target})

    @property
    def times(self) -> Counter[str]:
        return Counter(self.asked)


@contextmanager
def served() -> Iterator[Site]:
    """Serve an empty site."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            site.agents.add(self.headers["User-Agent"])
            answer = site.pages.get(self.path) or Answer(status=404)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.write is None:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            try:
                answer.write(self) if answer.write else self.wfile.write(answer.body)
            except OSError:  # the crawler has heard enough
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def bomb(megabytes: int) -> Answer:
    """A page of few bytes that become many."""
    body = gzip.compress(b"<html><body><p>" + b"a" * (megabytes << 20))
    return Answer(body, headers={"Content-Type": "text/html", "Content-Encoding": "gzip"})


def endless() -> Answer:
    """A page without an end."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        while True:
            handler.wfile.write(b"<p>more and more</p>" * 500)

    return Answer(write=write)


def hanging() -> Answer:
    """A page that begins and never goes on."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"<html>")
        handler.wfile.flush()
        time.sleep(30)

    return Answer(write=write)
