"""HTTP connections with bounds: a request has to arrive in time and with a bounded head, and its answer has to be read.

uvicorn bounds none of that: it reads and keeps a header that never ends, and keeps an answer that is never read.
"""

import asyncio
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_ARRIVAL_SECONDS = 30.0
_HEAD_BYTES = 65_536
# Requests of one connection that may wait for the one that is being answered; one read of 256 KiB may hold thousands.
_PIPELINE = 64
# A refused caller may still be sending: closing at once would reset the connection before it has read the refusal.
_LINGER_SECONDS = 2.0

_NONE, _HEAD, _BODY = range(3)
# Status lines and sentences.
_NO_HTTP = (b"400 Bad Request", "what was sent is not HTTP/1.1: look at the request line and the headers")
_LONG_HEAD = (
    b"431 Request Header Fields Too Large",
    f"the URL and headers are longer than {_HEAD_BYTES} bytes: send texts in the body of a POST",
)


class Refused(Exception):
    """Stops the parser, which then calls `send_400_response`."""


class Connection(HttpToolsProtocol):
    """One caller's connection.

    Args:
        config, server_state, app_state, _loop: those of uvicorn's class.
        seconds: how long a request may take from its first byte to its last, and how long a caller may read nothing.
        linger: how long the connection of a refused caller stays open.
    """

    def __init__(
        self, *args: Any, seconds: float = _ARRIVAL_SECONDS, linger: float = _LINGER_SECONDS, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._seconds = seconds
        self._linger = linger
        self._arriving = _NONE
        self._head = self._unparsed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._delivery: asyncio.TimerHandle | None = None
        self._unread = 0
        self._refused = False
        self._reason = _NO_HTTP

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request no longer than for the next ones."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._stop_timer()
        if self._delivery is not None:
            self._delivery.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse more bytes. A request that arrives in one read, as nearly all do, needs no timer."""
        if self._refused:
            return
        self._unparsed += len(data)
        super().data_received(data)
        if self._arriving == _NONE:
            self._stop_timer()
        elif self._timer is None and not self._refused:
            self._timer = self.loop.call_later(self._seconds, self._late)
        if not self._refused and self._head + self._unparsed > _HEAD_BYTES and self._arriving != _NONE:
            self._refuse(*_LONG_HEAD)  # a header that does not end: the parser buffers it

    def on_message_begin(self) -> None:
        """Start to count the head of a request."""
        if len(self.pipeline) >= _PIPELINE:
            raise Refused  # those before it are answered
        super().on_message_begin()
        self._arriving = _HEAD
        self._head = 0

    def on_url(self, url: bytes) -> None:
        """Count a part of the URL."""
        self._parsed(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header, or one that follows the body."""
        self._parsed(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start to read the body."""
        super().on_headers_complete()
        self._arriving = _BODY
        self._unparsed = 0

    def on_body(self, body: bytes) -> None:
        """Note that the parser has no unparsed bytes: all of these belong to the body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request has arrived."""
        super().on_message_complete()
        self._arriving = _NONE
        self._unparsed = 0

    def _parsed(self, size: int) -> None:
        """Count parsed bytes of the head."""
        self._unparsed = max(0, self._unparsed - size)
        self._head += size
        if self._head > _HEAD_BYTES:
            self._reason = _LONG_HEAD
            raise Refused

    def shutdown(self) -> None:
        """Finish accepted requests; refuse one that is still arriving, since it would be refused at its end."""
        if self._arriving == _BODY and not self._refused and not self._answering():
            self._refuse(
                b"503 Service Unavailable",
                "the server is stopping: send the request again, another one will take it",
                b"retry-after: 1\r\n",
            )
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer why the parser stopped, in the form of our other errors."""
        self._refuse(*self._reason)

    def on_response_complete(self) -> None:
        """Start the next request, unless the connection was refused."""
        more = bool(self.pipeline)
        super().on_response_complete()
        if self._refused and not more:
            self.transport.close()
        self._watch_delivery()

    def pause_writing(self) -> None:
        """Watch whether the caller reads its answers."""
        super().pause_writing()
        self._watch_delivery()

    def resume_writing(self) -> None:
        """Note that the caller has read."""
        super().resume_writing()
        self._unread = 0  # the watch starts anew

    def _watch_delivery(self) -> None:
        """Start a timer if bytes wait for the caller."""
        if self._delivery is None and (unread := self.transport.get_write_buffer_size()):
            self._unread = unread
            self._delivery = self.loop.call_later(self._seconds, self._undelivered)

    def _undelivered(self) -> None:
        """Abort the connection of a caller that has read nothing for the time."""
        self._delivery = None
        if self._unread and self.transport.get_write_buffer_size() >= self._unread:
            self.transport.abort()
        else:
            self._watch_delivery()

    def _late(self) -> None:
        self._timer = None
        if self.flow.read_paused or (self._arriving == _HEAD and self._answering()):
            # It waits for the request before it, or we have stopped reading: not the caller's fault.
            self._timer = self.loop.call_later(self._seconds, self._late)
        else:
            self._refuse(
                b"408 Request Timeout",
                f"the request did not arrive within {self._seconds:g} s: send it faster, or in several requests",
            )

    def _answering(self) -> bool:
        """Whether an earlier request is not answered yet."""
        earlier = self._arriving != _BODY and self.cycle is not None and not self.cycle.response_complete
        return earlier or bool(self.pipeline)

    def _refuse(self, status: bytes, sentence: str, more: bytes = b"") -> None:
        """Write a refusal without the application, read nothing more, and close."""
        self._refused = True
        self._stop_timer()
        self._unset_keepalive_if_required()
        if self._answering():  # answers keep the order of requests, and there is none after those
            if self._arriving == _BODY:
                self.pipeline.popleft()
            return
        if self._arriving == _BODY:
            if self.cycle.response_started:
                self.transport.close()
                return
            self.cycle.disconnected = True  # the application stops reading the body
            self.cycle.message_event.set()
        body = orjson.dumps({"error": sentence})
        self.transport.write(
            b"HTTP/1.1 %b\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, more, len(body), body)
        )
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(self._linger, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
