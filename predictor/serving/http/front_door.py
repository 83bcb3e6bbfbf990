"""What is asked over HTTP, in front of KServe's application.

Our routes bypass KServe's middleware and request models, which take longer than tokenising a text, and its faults:
bodies without a bound, content types other than four refused, errors that show internals.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import orjson

from predictor.errors import (
    MOST_PLACES,
    Compressed,
    EmptyTexts,
    NotNow,
    NotServed,
    Overloaded,
    Refusal,
    TooLarge,
    WrongMethod,
)
from predictor.serving.http.access import Access, Headers
from predictor.serving.http.messages import REQUEST_ID, Answer, Asked
from predictor.serving.http.routes import Route, Routes
from predictor.serving.memory import ByteBudget
from predictor.serving.prediction_log.log import new_id

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Bytes of an answer that are written at a time: the next are written when the caller has read most of these.
_PIECE = 65_536
# A body that is refused is read to its end, so that the caller can read the refusal, but only up to this many times
# the bound.
_PATIENCE = 8
_CLOSE = (b"connection", b"close")
# What KServe's logger knows a request by.
_EVENT_ID = b"ce-id"


class Disconnected(Exception):
    """The caller closed the connection."""


class FrontDoor:
    """An ASGI application that answers the routes of one model that take texts or labels; the rest goes to KServe's.

    Args:
        app: KServe's application.
        routes: those of the model.
        limit: the most bytes of a body.
        requests: the budget of the bodies that are not answered yet.
        answers: the budget of the answers that are not written yet.
        access: who may ask.
    """

    def __init__(
        self,
        app: Any,
        routes: Routes,
        limit: int,
        requests: ByteBudget,
        answers: ByteBudget,
        access: Access = Access(),  # noqa: B008 - it is frozen
    ) -> None:
        self._app = app
        self._routes = routes
        self._limit = limit
        self._requests = requests
        self._answers = answers
        self._access = access

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        shared = self._access.shared(headers)
        found = self._routes.find(scope["path"])
        if preflight := self._access.preflight(scope["method"], headers):
            status, more = preflight
            body = _error("the page's origin may not ask here: name it with --cors-origin") if status == 403 else b""
            await _write(send, status, [*shared, *more], body)
        elif found is None and (scope["method"] != "POST" or scope["path"].startswith("/v2/repository/")):
            await self._app(scope, receive, _adding(shared, send) if shared else send)
        else:
            # An answer without an id could not get feedback.
            headers[REQUEST_ID] = headers.get(REQUEST_ID) or headers.get(_EVENT_ID) or new_id().encode()
            route, job = found or (None, "")
            await self._serve(route, job, headers, shared, scope, receive, send)

    async def _serve(
        self,
        route: Route | None,
        job: str,
        headers: Mapping[bytes, bytes],
        shared: Headers,
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer a request, or say why not."""
        extra: Headers = []
        held = 0
        try:
            if route and scope["method"] not in route.methods:
                raise _wrong_method(route, scope)
            answer = await self._answer(route, job, headers, scope, receive)
            held = len(answer.body)
            self._answers.acquire(held)
        except Disconnected:
            return
        except Refusal as refusal:
            answer = Answer(_refused(refusal), status=refusal.status)
            if isinstance(refusal, NotNow):
                extra.append((b"retry-after", str(refusal.retry_after).encode()))
            if route and refusal.status == 405:
                extra.append((b"allow", ", ".join(route.methods).encode()))
            if refusal.status == 401:
                extra.append((b"www-authenticate", b"Bearer"))
            if refusal.status in (413, 503):
                extra.append(_CLOSE)
        try:
            extra.append((REQUEST_ID, headers[REQUEST_ID]))
            await _write(send, answer.status, [*answer.headers, *extra, *shared], answer.body)
        finally:
            self._answers.release(held)

    async def _answer(
        self,
        route: Route | None,
        job: str,
        headers: Mapping[bytes, bytes],
        scope: Mapping[str, Any],
        receive: Receive,
    ) -> Answer:
        client = ""
        refusal: Refusal | None = None
        if route is None:
            refusal = NotServed(f"nothing is served at {scope['path'][:200]}: {self._routes.advice}")
        else:
            try:
                client = self._client(route, headers)
            except Refusal as unknown:
                refusal = unknown
        async with self._body(route, headers, receive, refusal) as body:
            assert route is not None
            if (encoding := headers.get(b"content-encoding", b"identity")) != b"identity":
                named = encoding[:20].decode("latin-1")
                raise _counted(route, Compressed(f"the body has content-encoding {named}: send it as it is"))
            asked = Asked(headers, body, scope.get("query_string", b""), job, client)
            return await _unless_disconnected(route.methods[scope["method"]](asked), receive)

    def _client(self, route: Route, headers: Mapping[bytes, bytes]) -> str:
        """Return a key of who asks; empty where anybody may.

        Raises:
            Unauthorised, Unsupported: the caller has no token, or there is none to compare with.
        """
        if not route.guarded or self._access.tokens is None:
            return ""
        return self._access.tokens.caller(headers.get(b"authorization", b"").decode("latin-1"))

    @asynccontextmanager
    async def _body(
        self, route: Route | None, headers: Mapping[bytes, bytes], receive: Receive, refusal: Refusal | None
    ) -> AsyncIterator[bytes]:
        """Read the body, and hold its part of the budget until it is answered.

        Args:
            route: where it is sent to.
            headers: those of the request.
            receive: gives the next part.
            refusal: why it is not answered, whatever it is; nothing of it is kept then.

        Raises:
            Refusal: the one that is given.
            TooLarge: it is longer than the limit.
            Overloaded: the budget is used up.
            Disconnected: the caller closed the connection before its end.
        """
        parts: list[bytes] = []
        size = held = 0
        too_large = TooLarge(f"the body is longer than {self._limit} bytes: send its texts in several requests")
        more = True
        try:
            if b"expect" in headers:  # the caller waits for permission to send it
                if int(headers.get(b"content-length", b"0")) > self._limit:
                    refusal = refusal or too_large
                if refusal:
                    raise _counted(route, refusal)
            while more and size <= _PATIENCE * self._limit:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                part: bytes = message.get("body", b"")
                more = message.get("more_body", False)
                size += len(part)
                if refusal or size > self._limit:
                    parts.clear()
                    continue
                parts.append(part)
                held += len(part)
                try:
                    self._requests.acquire(len(part))
                except Overloaded as full:
                    raise _counted(route, full) from None
            if refusal or size > self._limit:
                raise _counted(route, refusal or too_large)
            yield b"".join(parts)
        finally:
            self._requests.release(held)


async def _write(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Write an answer in pieces, between which health checks run."""
    length = [(b"content-length", str(len(body)).encode())] if status != 204 else []
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    for start in range(0, max(1, len(body)), _PIECE):
        more = start + _PIECE < len(body)
        await send({"type": "http.response.body", "body": body[start : start + _PIECE], "more_body": more})
        if more:
            await asyncio.sleep(0)


def _adding(headers: Headers, send: Send) -> Send:
    """Add headers to an answer of KServe's application."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        await send(message)

    return add


def _counted(route: Route | None, refusal: Refusal) -> Refusal:
    """Count a refusal of a request that does not reach a handler."""
    if route:
        route.count(refusal.status)
    return refusal


def _wrong_method(route: Route, scope: Mapping[str, Any]) -> WrongMethod:
    *others, last = route.methods
    wanted = f"{', '.join(others)} or {last}" if others else last
    return WrongMethod(f"{scope['path']} is not asked with {scope['method']}: send a {wanted}")


async def _unless_disconnected(answering: Awaitable[Answer], receive: Receive) -> Answer:
    """Wait for the answer, but stop when the caller closes the connection."""
    task = asyncio.current_task()
    assert task is not None

    def cancel(_: object) -> None:
        task.cancel()

    disconnected = asyncio.ensure_future(receive())  # the next message after a whole body is a disconnect
    disconnected.add_done_callback(cancel)
    try:
        return await answering
    except asyncio.CancelledError:
        if disconnected.done():
            raise Disconnected from None
        raise
    finally:
        disconnected.remove_done_callback(cancel)
        disconnected.cancel()


def _refused(refusal: Refusal) -> bytes:
    more = {"empty": refusal.places[:MOST_PLACES]} if isinstance(refusal, EmptyTexts) else {}
    return _error(str(refusal), **more)


def _error(sentence: str, **more: Any) -> bytes:
    return orjson.dumps({"error": sentence.encode("utf-8", "replace").decode(), **more})
