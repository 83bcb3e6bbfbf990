"""Calls of a real grpc server in front of a small model: what it holds is bounded, and given back."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from predictor.bounds import Held
from predictor.rpc import SERVICE, RpcServer
from predictor.serving import Limits
from tests.predictor.conftest import free_port

LIMIT = 100_000
INFER = f"/{SERVICE}/ModelInfer"
NOT_SERVING, SERVING = (health_pb2.HealthCheckResponse.ServingStatus.Value(name) for name in ("NOT_SERVING", "SERVING"))


class Echo:
    """Answers with what it is asked, or when told."""

    name = "m"

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.asked = 0

    async def answer_grpc(self, message: bytes) -> bytes:
        self.asked += 1
        if message.startswith(b"hold"):
            await self.release.wait()
        return message


def played(script: Callable[[Any, Echo, RpcServer], Awaitable[None]]) -> tuple[Held, Held]:
    requests, answers = Held(4 * LIMIT), Held(4 * LIMIT)

    async def whole() -> None:
        model: Any = Echo()
        plane: Any = SimpleNamespace()
        limits = Limits(1000, 30, 0, LIMIT)
        port = free_port()
        server = RpcServer(
            port, plane, plane, kwargs={}, model=model, limits=limits, requests=requests, answers=answers
        )
        serving = asyncio.create_task(server.start(1))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
            await asyncio.wait_for(script(channel, model, server), 30)
        model.release.set()
        await server._server.stop(None)
        await serving

    asyncio.run(whole())
    return requests, answers


def test_messages_are_held_up_to_a_bound_and_others_are_told_to_come_again() -> None:
    async def script(channel: Any, model: Echo, server: RpcServer) -> None:
        call = channel.unary_unary(INFER)
        held = [asyncio.ensure_future(call(b"hold" * (LIMIT // 4))) for _ in range(4)]
        while model.asked < 4:
            await asyncio.sleep(0.01)
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"another")
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert dict(refused.value.trailing_metadata())["retry-after"] == "1"
        model.release.set()
        assert await asyncio.gather(*held) == [b"hold" * (LIMIT // 4)] * 4
        assert await call(b"another") == b"another"

    requests, answers = played(script)
    assert requests.bytes == answers.bytes == 0


def test_health_is_told_of_each_name_and_of_the_end() -> None:
    async def script(channel: Any, model: Echo, server: RpcServer) -> None:
        stub = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(health_pb2.HealthCheckRequest(service="m"))
        assert (await watched.read()).status == SERVING
        for wanted in (SERVING, NOT_SERVING):
            for service in ("", "m", SERVICE):
                assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == wanted
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Check(health_pb2.HealthCheckRequest(service="other"))
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND
            await server.say_stopping()
        assert (await watched.read()).status == NOT_SERVING
        watched.cancel()

    played(script)


def test_only_texts_may_be_long() -> None:
    async def script(channel: Any, model: Echo, server: RpcServer) -> None:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Check(health_pb2.HealthCheckRequest(service="x" * 70_000))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT

    played(script)
