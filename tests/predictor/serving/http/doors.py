"""A front door before a model that says what it was asked, and ways to ask it without a socket."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx

from predictor.naming import AnswerNames
from predictor.serving.http.access import Access
from predictor.serving.http.front_door import FrontDoor, Message
from predictor.serving.http.routes import Routes
from predictor.serving.memory import ByteBudget
from predictor.serving.wire.responses import Model

V1 = "/v1/models/m:predict"
V2 = "/v2/models/m/infer"


class FakeModel:
    """Says what it was asked, or fails as told."""

    name = "m"
    names = AnswerNames()
    answering = Model("m", "v", ["a", "b"])

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.deadlines: list[bytes | None] = []
        self.ids: list[str] = []
        self.cancelled = 0
        self.counted: list[tuple[str, int]] = []
        self.metrics = SimpleNamespace(
            request=lambda protocol, code, _: self.counted.append((protocol, code)),
            explanation=lambda code, _: self.counted.append(("explain", code)),
            feedback=lambda refused: self.counted.append(("feedback", refused)),
        )

    async def answer_v1(self, body: bytes, deadline: bytes | None, request_id: str) -> bytes:
        self.deadlines.append(deadline)
        self.ids.append(request_id)
        if self.error:
            raise self.error
        if body == b"forever":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return json.dumps({"length": len(body)}).encode()

    async def answer_v2(
        self, body: bytes, json_length: str | None, deadline: bytes | None, request_id: str
    ) -> tuple[bytes, int | None]:
        self.ids.append(request_id)
        return (b"{}rest", 2) if json_length else (b"{}", None)

    async def feedback_v1(self, body: bytes) -> bytes:
        return b'{"accepted":1}'


async def kserve(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"kserve's"})


def doored(
    limit: int = 1000,
    answers: int = 10_000,
    access: Access = Access(),  # noqa: B008
) -> tuple[FrontDoor, FakeModel]:
    model: Any = FakeModel()
    return FrontDoor(kserve, Routes(model, {}), limit, ByteBudget(16 * limit), ByteBudget(answers), access), model


def asked(door: FrontDoor, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        transport: Any = httpx.ASGITransport(app=door)
        async with httpx.AsyncClient(transport=transport, base_url="http://m") as client:
            return [await client.request(method, path, **more) for method, path, more in requests]

    responses = asyncio.run(ask())
    assert door._requests.bytes == door._answers.bytes == 0
    return responses


def script_of(*messages: Message) -> Callable[[], Awaitable[Message]]:
    left = list(messages)

    async def receive() -> Message:
        if left:
            return left.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def scope_of(**headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "POST", "path": V1, "headers": pairs}


def called(door: FrontDoor, scope: dict[str, Any], *messages: Message) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(door(scope, script_of(*messages), send), 10))
    assert door._requests.bytes == door._answers.bytes == 0
    return sent
