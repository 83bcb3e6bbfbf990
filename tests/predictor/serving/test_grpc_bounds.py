"""Calls of a real grpc server in front of a small model: what it holds is bounded, and given back."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from predictor.serving.grpc_server import _ARRIVING as ARRIVING
from predictor.serving.grpc_server import SERVICE, BoundedGrpcServer, MessageReader
from predictor.serving.memory import ByteBudget
from predictor.serving.scheduler import Limits
from tests.ports import free_port

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


def played(script: Callable[[Any, Echo, BoundedGrpcServer], Awaitable[None]]) -> tuple[ByteBudget, ByteBudget]:
    requests, answers = ByteBudget(4 * LIMIT), ByteBudget(4 * LIMIT)

    async def whole() -> None:
        model: Any = Echo()
        plane: Any = SimpleNamespace()
        limits = Limits(1000, 30, 0, LIMIT)
        port = free_port()
        server = BoundedGrpcServer(
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
    async def script(channel: Any, model: Echo, server: BoundedGrpcServer) -> None:
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
    async def script(channel: Any, model: Echo, server: BoundedGrpcServer) -> None:
        stub = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(health_pb2.HealthCheckRequest(service="m"))
        assert (await watched.read()).status == SERVING
        for wanted in (SERVING, NOT_SERVING):
            for service in ("", "m", SERVICE):
                assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == wanted
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Check(health_pb2.HealthCheckRequest(service="other"))
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND
            await server.set_not_serving()
        assert (await watched.read()).status == NOT_SERVING
        watched.cancel()

    played(script)


def test_only_texts_may_be_long() -> None:
    async def script(channel: Any, model: Echo, server: BoundedGrpcServer) -> None:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Check(health_pb2.HealthCheckRequest(service="x" * 70_000))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT

    played(script)


def slow_call(port: int) -> socket.socket:
    """Begin a call whose message never arrives whole, frame by frame as HTTP/2 has them: grpc's own client cannot."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload

    def text(value: str) -> bytes:
        return bytes((len(value),)) + value.encode()

    fields = {
        ":method": "POST", ":scheme": "http", ":path": INFER, ":authority": "m", "te": "trailers",
        "content-type": "application/grpc",
    }  # fmt: skip
    head = b"".join(b"\0" + text(name) + text(value) for name, value in fields.items())
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, head)
        + frame(0, 0, 1, b"\0" + (1000).to_bytes(4, "big") + b"slow")
    )  # fmt: skip
    return connection


def test_messages_that_arrive_slowly_give_way_to_those_that_wait() -> None:
    async def script(channel: Any, model: Echo, server: BoundedGrpcServer) -> None:
        arrivals = server._interceptor._large
        slow = [await asyncio.to_thread(slow_call, server._port) for _ in range(ARRIVING)]
        while not arrivals._places.locked():
            await asyncio.sleep(0.01)
        call = channel.unary_unary(INFER)
        answers = await asyncio.gather(*(call(b"%d" % number) for number in range(40)))
        assert answers == [b"%d" % number for number in range(40)]
        for connection in slow:
            with connection, connection.makefile("rb") as stream:
                told = b""
                while b"held up others" not in told:
                    told += await asyncio.to_thread(stream.read1)

    played(script)


def test_a_long_message_keeps_its_place_for_a_while_so_that_others_than_copies_run() -> None:
    class Message:
        async def read(self) -> bytes:
            return bytes(2**20)

    async def whole() -> None:
        arrivals = MessageReader()
        for _ in range(ARRIVING):
            assert len(await arrivals.read(Message())) == 2**20
        assert arrivals._places.locked()  # though nothing is on its way
        await arrivals.read(Message())  # waits, and comes

    asyncio.run(whole())
