"""The two inference routes over HTTP, in front of KServe's application.

They bypass its middlewares and its models of a request, which cost more than the tokenising of a text, and its edges:
bodies without a bound, a content type that must be one of four, errors that tell of the inside.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from predictor.errors import BadRequest, NotNow, Overloaded, Refusal, TooLarge
from predictor.model import TextClassifier

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# Bodies of the greatest length that may be held at a time; memory stays bounded however many callers send.
_BODIES = 16
# A body that is too long is read to its end, so that the caller gets to read why; up to so many times the bound.
_PATIENCE = 8
_JSON = (b"content-type", b"application/json")
_CLOSE = (b"connection", b"close")
# What Envoy, and so every gateway made of it, tells of the time it is going to wait.
_DEADLINE = b"x-envoy-expected-rq-timeout-ms"


class Gone(Exception):
    """The caller hung up."""


class FrontDoor:
    """An ASGI application: answers `:predict` and `/infer` of one model, and hands everything else on.

    Args:
        app: KServe's application.
        model: what answers.
        limit: the most bytes of a body.
    """

    def __init__(self, app: Any, model: TextClassifier, limit: int) -> None:
        self._app = app
        self._model = model
        self._limit = limit
        self._held = 0
        self._routes = {f"/v1/models/{model.name}:predict": self._v1, f"/v2/models/{model.name}/infer": self._v2}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"].startswith("/v2/repository/"):
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        extra: Headers = []
        if (request_id := headers.get(b"x-request-id")) is not None:
            extra.append((b"x-request-id", request_id))
        held = [0]
        try:
            route = self._routes.get(scope["path"])
            body = await self._read(headers, receive, held)
            if route is None:
                here = " and ".join(self._routes)
                status, answer = 404, _error(f"nothing is served at {scope['path'][:200]}: POST to {here}")
            else:
                status = 200
                answer, more = await self._unless_gone(route(body, headers), receive)
                extra += more
        except Gone:
            return
        except Refusal as refusal:
            status, answer = refusal.status, _error(str(refusal))
            if isinstance(refusal, NotNow):
                extra.append((b"retry-after", str(refusal.retry_after).encode()))
            if status in (413, 503):
                extra.append(_CLOSE)
        finally:
            self._held -= held[0]
        if not any(name == b"content-type" for name, _ in extra):
            extra.append(_JSON)
        extra.append((b"content-length", str(len(answer)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": extra})
        await send({"type": "http.response.body", "body": answer})

    async def _v1(self, body: bytes, headers: dict[bytes, bytes]) -> tuple[bytes, Headers]:
        return await self._model.answer_v1(body, _deadline(headers)), []

    async def _v2(self, body: bytes, headers: dict[bytes, bytes]) -> tuple[bytes, Headers]:
        length = headers.get(b"inference-header-content-length")
        answer, head = await self._model.answer_v2(body, length and length.decode("latin-1"), _deadline(headers))
        if head is None:
            return answer, []
        binary = (b"content-type", b"application/octet-stream")
        return answer, [binary, (b"inference-header-content-length", str(head).encode())]

    async def _read(self, headers: dict[bytes, bytes], receive: Receive, held: list[int]) -> bytes:
        """Return the body, counting what it holds.

        Raises:
            TooLarge: it is longer than the limit.
            Overloaded: there are too many bodies already.
            Gone: it breaks off.
        """
        declared = headers.get(b"content-length", b"0")
        too_large = TooLarge(f"the body is longer than {self._limit} bytes: send its texts in several requests")
        if int(declared) > self._limit and b"expect" in headers:
            raise too_large  # the caller waits for leave to send
        parts = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            part: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(part)
            if size > self._limit:
                parts.clear()
                if size > _PATIENCE * self._limit:
                    break
            else:
                self._held += len(part)
                held[0] += len(part)
                parts.append(part)
                if self._held > _BODIES * self._limit:
                    raise Overloaded("the server holds all the requests it can: send the request again in 1 s", 1)
        if size > self._limit:
            raise too_large
        return b"".join(parts)

    @staticmethod
    async def _unless_gone(answering: Awaitable[tuple[bytes, Headers]], receive: Receive) -> tuple[bytes, Headers]:
        """Answer, but stop when the caller hangs up: nobody is there to read it."""
        task = asyncio.current_task()
        assert task is not None

        def hang_up(_: object) -> None:
            task.cancel()

        gone = asyncio.ensure_future(receive())  # the next message after a whole body is a disconnect
        gone.add_done_callback(hang_up)
        try:
            return await answering
        except asyncio.CancelledError:
            if gone.done():
                raise Gone from None
            raise
        finally:
            gone.remove_done_callback(hang_up)
            gone.cancel()


def _deadline(headers: dict[bytes, bytes]) -> float | None:
    """Return the seconds a gateway is going to wait, none where it does not say."""
    given = headers.get(_DEADLINE)
    if given is None:
        return None
    if not given.isdigit() or len(given) > 10 or not int(given):
        raise BadRequest(f"{_DEADLINE.decode()} is {given[:20]!r}: send milliseconds, from 1 on")
    return int(given) / 1000


def _error(message: str) -> bytes:
    return orjson.dumps({"error": message.encode("utf-8", "replace").decode()})
