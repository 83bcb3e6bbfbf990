"""The two inference routes over HTTP, in front of KServe's application.

They bypass KServe's middleware and request models, which take longer than tokenising a text, and its faults: bodies
without a bound, content types other than four refused, errors that show internals.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import orjson

from predictor.errors import Compressed, EmptyTexts, NotNow, NotServed, Overloaded, Refusal, TooLarge, WrongMethod
from predictor.serving.kserve_model import TextClassifier
from predictor.serving.memory import ByteBudget
from predictor.serving.wire.requests import DEADLINE_HEADER

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# Bytes of an answer that are written at a time: the next are written when the caller has read most of these.
_PIECE = 65_536
# A body that is too long is read to its end, so that the caller can read the refusal, but only up to this many times
# the bound.
_PATIENCE = 8
_JSON = (b"content-type", b"application/json")
_CLOSE = (b"connection", b"close")
_DEADLINE = DEADLINE_HEADER.encode()


class Disconnected(Exception):
    """The caller closed the connection."""


class FrontDoor:
    """An ASGI application that answers `:predict` and `/infer` of one model, and passes other requests to KServe's.

    Args:
        app: KServe's application.
        model: the model.
        limit: the most bytes of a body.
        requests: the budget of the bodies that are not answered yet.
        answers: the budget of the answers that are not written yet.
    """

    def __init__(self, app: Any, model: TextClassifier, limit: int, requests: ByteBudget, answers: ByteBudget) -> None:
        self._app = app
        self._model = model
        self._limit = limit
        self._requests = requests
        self._answers = answers
        self._routes = {
            f"/v1/models/{model.name}:predict": ("v1", self._v1),
            f"/v2/models/{model.name}/infer": ("v2", self._v2),
        }

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http" or not self._handles(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        extra: Headers = []
        status = 200
        held = 0
        try:
            if scope["method"] != "POST":
                raise WrongMethod(f"{scope['path']} is not asked with {scope['method']}: send a POST")
            answer, extra = await self._answer(scope["path"], headers, receive)
            held = len(answer)
            self._answers.acquire(held)
        except Disconnected:
            return
        except Refusal as refusal:
            status, answer, extra = refusal.status, _error(refusal), [_JSON]
            if isinstance(refusal, NotNow):
                extra.append((b"retry-after", str(refusal.retry_after).encode()))
            if status == 405:
                extra.append((b"allow", b"POST"))
            if status in (413, 503):
                extra.append(_CLOSE)
        if (request_id := headers.get(b"x-request-id")) is not None:
            extra.append((b"x-request-id", request_id))
        extra.append((b"content-length", str(len(answer)).encode()))
        try:
            await send({"type": "http.response.start", "status": status, "headers": extra})
            for start in range(0, len(answer), _PIECE):
                more = start + _PIECE < len(answer)
                await send({"type": "http.response.body", "body": answer[start : start + _PIECE], "more_body": more})
                if more:
                    await asyncio.sleep(0)  # between writes, health checks run
        finally:
            self._answers.release(held)

    def _handles(self, method: str, path: str) -> bool:
        return path in self._routes or (method == "POST" and not path.startswith("/v2/repository/"))

    async def _answer(self, path: str, headers: dict[bytes, bytes], receive: Receive) -> tuple[bytes, Headers]:
        protocol, route = self._routes.get(path, ("", None))
        async with self._body(protocol, headers, receive) as body:
            if route is None:
                here = " and ".join(self._routes)
                raise NotServed(f"nothing is served at {path[:200]}: POST to {here}")
            if (encoding := headers.get(b"content-encoding", b"identity")) != b"identity":
                named = encoding[:20].decode("latin-1")
                raise self._counted(protocol, Compressed(f"the body has content-encoding {named}: send it as it is"))
            return await _unless_disconnected(route(body, headers), receive)

    async def _v1(self, body: bytes, headers: dict[bytes, bytes]) -> tuple[bytes, Headers]:
        return await self._model.answer_v1(body, headers.get(_DEADLINE)), [_JSON]

    async def _v2(self, body: bytes, headers: dict[bytes, bytes]) -> tuple[bytes, Headers]:
        given = headers.get(b"inference-header-content-length")
        length = None if given is None else given.decode("latin-1")
        answer, head = await self._model.answer_v2(body, length, headers.get(_DEADLINE))
        if head is None:
            return answer, [_JSON]
        binary = (b"content-type", b"application/octet-stream")
        return answer, [binary, (b"inference-header-content-length", str(head).encode())]

    @asynccontextmanager
    async def _body(self, protocol: str, headers: dict[bytes, bytes], receive: Receive) -> AsyncIterator[bytes]:
        """Read the body, and hold its part of the budget until it is answered.

        Raises:
            TooLarge: it is longer than the limit.
            Overloaded: the budget is used up.
            Disconnected: the caller closed the connection before its end.
        """
        parts: list[bytes] = []
        size = held = 0
        too_large = TooLarge(f"the body is longer than {self._limit} bytes: send its texts in several requests")
        more = True
        try:
            if b"expect" in headers and int(headers.get(b"content-length", b"0")) > self._limit:
                raise self._counted(protocol, too_large)  # the caller waits for permission to send it
            while more and size <= _PATIENCE * self._limit:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                part: bytes = message.get("body", b"")
                more = message.get("more_body", False)
                size += len(part)
                if size > self._limit:
                    parts.clear()
                    continue
                parts.append(part)
                held += len(part)
                try:
                    self._requests.acquire(len(part))
                except Overloaded as full:
                    raise self._counted(protocol, full) from None
            if size > self._limit:
                raise self._counted(protocol, too_large)
            yield b"".join(parts)
        finally:
            self._requests.release(held)

    def _counted(self, protocol: str, refusal: Refusal) -> Refusal:
        """Count a refusal of a request that does not reach the model."""
        if protocol:
            self._model.metrics.request(protocol, refusal.status, 0.0)
        return refusal


async def _unless_disconnected(answering: Awaitable[tuple[bytes, Headers]], receive: Receive) -> tuple[bytes, Headers]:
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


def _error(refusal: Refusal) -> bytes:
    body: dict[str, Any] = {"error": str(refusal).encode("utf-8", "replace").decode()}
    if isinstance(refusal, EmptyTexts):
        body["empty"] = refusal.places
    return orjson.dumps(body)
