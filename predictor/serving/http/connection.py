"""HTTP connections that give back what they hold: a request has to arrive whole, in time, behind a bounded head, and
its answer has to be read.

uvicorn bounds none of that: it listens for ever to a header that never ends, and keeps all of it, as it does an answer
that is never read.
"""

import asyncio
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_ARRIVAL_SECONDS = 30.0
_HEAD_BYTES = 65_536
# Requests on one connection that wait behind the one that is being answered; a piece of 256 KiB may bring thousands.
_PIPELINE = 64
# A refused caller may still be sending; closing at once would reset the connection before it reads why.
_LINGER_SECONDS = 2.0

_NONE, _HEAD, _BODY = range(3)
# Status lines and sentences.
_NO_HTTP = (b"400 Bad Request", "what was sent is not HTTP/1.1: look at the request line and the headers")
_LONG_HEAD = (
    b"431 Request Header Fields Too Large",
    f"the URL and headers are longer than {_HEAD_BYTES} bytes: send texts in the body of a POST",
)


class Refused(Exception):
    """What arrives is read no further: it stops the parser, which comes back through `send_400_response`."""


class Connection(HttpToolsProtocol):
    """One caller's connection.

    Args:
        config, server_state, app_state, _loop: uvicorn's.
        seconds: how long a request may take to arrive, from its first byte to its last, and a caller not to read on.
        linger: how long a refused caller is still listened to.
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
        """Wait for a first request no longer than for a next one."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the caller."""
        self._stop_timer()
        if self._delivery is not None:
            self._delivery.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; what arrives in one piece, as nearly every request does, needs no timer."""
        if self._refused:
            return
        self._unparsed += len(data)
        super().data_received(data)
        if self._arriving == _NONE:
            self._stop_timer()
        elif self._timer is None and not self._refused:
            self._timer = self.loop.call_later(self._seconds, self._late)
        if not self._refused and self._head + self._unparsed > _HEAD_BYTES and self._arriving != _NONE:
            self._refuse(*_LONG_HEAD)  # a header without end, which the parser keeps for itself

    def on_message_begin(self) -> None:
        """Note that a request begins."""
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
        """Note that its body begins."""
        super().on_headers_complete()
        self._arriving = _BODY
        self._unparsed = 0

    def on_body(self, body: bytes) -> None:
        """Note that what has come is the body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that it has arrived."""
        super().on_message_complete()
        self._arriving = _NONE
        self._unparsed = 0

    def _parsed(self, size: int) -> None:
        """Count bytes of the head, wherever the pieces that arrive begin and end."""
        self._unparsed = max(0, self._unparsed - size)
        self._head += size
        if self._head > _HEAD_BYTES:
            self._reason = _LONG_HEAD
            raise Refused

    def shutdown(self) -> None:
        """Let a request that was taken be answered; one that is still arriving would only be refused at its end."""
        if self._arriving == _BODY and not self._refused and not self._answering():
            self._refuse(
                b"503 Service Unavailable",
                "the server is stopping: send the request again, another one will take it",
                b"retry-after: 1\r\n",
            )
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Say in the server's own form why the parser stopped."""
        self._refuse(*self._reason)

    def on_response_complete(self) -> None:
        """Go on with the next request, unless what followed this one was refused."""
        more = bool(self.pipeline)
        super().on_response_complete()
        if self._refused and not more:
            self.transport.close()
        self._watch_delivery()

    def pause_writing(self) -> None:
        """Note that answers wait for the caller to read."""
        super().pause_writing()
        self._watch_delivery()

    def resume_writing(self) -> None:
        """Note that the caller reads on."""
        super().resume_writing()
        self._unread = 0  # more than any time before, whatever is written next

    def _watch_delivery(self) -> None:
        """Give a caller that does not read its time."""
        if self._delivery is None and (unread := self.transport.get_write_buffer_size()):
            self._unread = unread
            self._delivery = self.loop.call_later(self._seconds, self._undelivered)

    def _undelivered(self) -> None:
        """Let go of a caller that has read nothing for a while, and of its answers."""
        self._delivery = None
        if self._unread and self.transport.get_write_buffer_size() >= self._unread:
            self.transport.abort()
        else:
            self._watch_delivery()

    def _late(self) -> None:
        self._timer = None
        if self.flow.read_paused or (self._arriving == _HEAD and self._answering()):
            # It waits behind a request that is being answered, or we have not read on: not the caller's doing.
            self._timer = self.loop.call_later(self._seconds, self._late)
        else:
            self._refuse(
                b"408 Request Timeout",
                f"the request did not arrive within {self._seconds:g} s: send it faster, or in several requests",
            )

    def _answering(self) -> bool:
        """Say whether a request before the one that arrives is not answered yet."""
        earlier = self._arriving != _BODY and self.cycle is not None and not self.cycle.response_complete
        return earlier or bool(self.pipeline)

    def _refuse(self, status: bytes, sentence: str, more: bytes = b"") -> None:
        """Answer without an application, read nothing more, and close."""
        self._refused = True
        self._stop_timer()
        self._unset_keepalive_if_required()
        if self._answering():  # answers come in the requests' order; after those that have arrived there is none
            if self._arriving == _BODY:
                self.pipeline.popleft()
            return
        if self._arriving == _BODY:
            if self.cycle.response_started:
                self.transport.close()
                return
            self.cycle.disconnected = True  # whoever reads the body lets go of what there is
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
