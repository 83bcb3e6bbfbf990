"""Connections of a real uvicorn in front of a small application."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from predictor.serving.http.connection import Connection

POST = b"POST /a HTTP/1.1\r\nhost: m\r\ncontent-length: 4\r\n\r\n"
Ask = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Application:
    """Echoes bodies; answers to "hold" when told; counts the callers that broke off."""

    def __init__(self) -> None:
        self.gone = 0
        self.reading = 0
        self.release = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            self.reading += 1
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if body == b"hold":
            await self.release.wait()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def played(
    script: Callable[[Application, Callable[[], Awaitable[Ask]], ServerState], Awaitable[None]], seconds: float = 25
) -> None:
    async def whole() -> None:
        app, state = Application(), ServerState()
        config = uvicorn.Config(app, log_config=None)
        config.load()
        make = partial(Connection, config=config, server_state=state, app_state={}, seconds=seconds, linger=0.1)
        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await asyncio.wait_for(script(app, partial(asyncio.open_connection, "127.0.0.1", port), state), 30)
        server.close()

    asyncio.run(whole())


@asynccontextmanager
async def opened(connect: Callable[[], Awaitable[Ask]]) -> Any:
    reader, writer = await connect()
    try:
        yield reader, writer
    finally:
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def refused(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Read a refusal, and see that the connection ends after it in order."""
    status, headers, body = await answer_of(reader)
    assert headers["content-type"] == "application/json" and headers["connection"] == "close"
    assert await reader.read() == b""
    return status, json.loads(body)["error"]


@pytest.mark.parametrize("start", [b"P", b"POST /a HTTP/1.1\r\nx-slow: ", POST, POST + b"abc"])
@pytest.mark.parametrize("before", [b"", POST + b"abcd"])
def test_a_request_that_never_ends_is_given_up(start: bytes, before: bytes) -> None:
    async def script(app: Application, connect: Any, state: ServerState) -> None:
        async with opened(connect) as (reader, writer), opened(connect) as (other, asking):
            if before:
                writer.write(before)
                assert (await answer_of(reader))[2] == b"abcd"
            writer.write(start)
            asking.write(POST + b"next")
            assert (await answer_of(other))[2] == b"next"
            status, sentence = await refused(reader)
            assert (status, sentence[:38]) == (408, "the request did not arrive within 0.2 ")
            assert app.gone == start.startswith(POST)  # what was read of a body is let go
            asking.write(POST + b"more")
            assert (await answer_of(other))[2] == b"more"
            await until(lambda: len(state.connections) == 1)

    played(script, seconds=0.2)


def test_a_drip_of_bytes_does_not_put_the_end_off() -> None:
    async def script(app: Application, connect: Any, state: ServerState) -> None:
        async with opened(connect) as (reader, writer):
            writer.write(b"POST /a HTTP/1.1\r\nx-slow: ")
            answer = asyncio.create_task(refused(reader))
            while not answer.done():
                writer.write(b"a")
                await asyncio.sleep(0.01)
            assert (await answer)[0] == 408

    played(script, seconds=0.2)


def test_a_head_without_end_is_not_kept() -> None:
    async def script(app: Application, connect: Any, state: ServerState) -> None:
        for start in (b"GET /", b"GET / HTTP/1.1\r\nx-long: ", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000):
            async with opened(connect) as (reader, writer):
                writer.write(start)
                answer = asyncio.create_task(refused(reader))
                while not answer.done():
                    writer.write(b"a" * 50_000)
                    await asyncio.sleep(0)
                status, sentence = await answer
                assert status == 431 and "65536 bytes" in sentence

    played(script)


def test_a_request_in_pieces_and_requests_in_one_piece_are_answered() -> None:
    async def script(app: Application, connect: Any, state: ServerState) -> None:
        async with opened(connect) as (reader, writer):
            for piece in (POST[:9], POST[9:-2], POST[-2:], b"ab", b"cd"):
                writer.write(piece)
                await asyncio.sleep(0.005)
            assert (await answer_of(reader))[2] == b"abcd"
            (connection,) = state.connections
            assert isinstance(connection, Connection) and connection._timer is None  # nothing arrives, nothing is late
            writer.write(POST + b"1111" + POST + b"2222" + POST + b"3333")
            assert [(await answer_of(reader))[2] for _ in range(3)] == [b"1111", b"2222", b"3333"]
            writer.write(b"POST /a HTTP/1.1\r\nhost: m\r\ncontent-length: 900000\r\n\r\n" + b"x" * 900_000)
            assert len((await answer_of(reader))[2]) == 900_000

    played(script)


def test_a_request_behind_one_that_is_being_answered_has_its_time() -> None:
    async def script(app: Application, connect: Any, state: ServerState) -> None:
        async with opened(connect) as (reader, writer):
            writer.write(POST + b"hold" + POST[:20])
            await until(lambda: app.reading > 0)
            (connection,) = state.connections
            assert isinstance(connection, Connection)
            connection._late()
            app.release.set()
            assert (await answer_of(reader))[2] == b"hold"
            writer.write(POST[20:] + b"next")
            assert (await answer_of(reader))[2] == b"next"

    played(script)


def test_nonsense_is_no_http_but_does_not_cost_the_answer_before_it() -> None:
    async def script(app: Application, connect: Any, state: ServerState) -> None:
        async with opened(connect) as (reader, writer):
            writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
            status, sentence = await refused(reader)
            assert status == 400 and "not HTTP/1.1" in sentence
        async with opened(connect) as (reader, writer):
            writer.write(POST + b"hold" + b"nonsense\r\n\r\n" + POST + b"next")
            await until(lambda: app.reading > 0)
            app.release.set()
            assert (await answer_of(reader))[2] == b"hold"
            assert await reader.read() == b""

    played(script)


def test_a_caller_that_says_nothing_at_all_is_let_go() -> None:
    async def script(app: Application, connect: Any, state: ServerState) -> None:
        async with opened(connect) as (reader, _):
            await until(lambda: bool(state.connections))
            (connection,) = state.connections
            assert isinstance(connection, Connection) and connection.timeout_keep_alive_task
            connection.timeout_keep_alive_task.cancel()
            connection.timeout_keep_alive_handler()
            assert await reader.read() == b""

    played(script)


def test_a_server_that_stops_does_not_wait_for_half_a_request() -> None:
    async def script(app: Application, connect: Any, state: ServerState) -> None:
        async with opened(connect) as (reader, writer), opened(connect) as (whole, asking):
            writer.write(POST + b"ab")
            asking.write(POST + b"hold")
            await until(lambda: app.reading == 3)
            for connection in list(state.connections):
                connection.shutdown()
            status, headers, body = await answer_of(reader)
            assert status == 503 and headers["retry-after"] == "1" and "stopping" in json.loads(body)["error"]
            assert app.gone == 1
            app.release.set()
            assert (await answer_of(whole))[2] == b"hold"

    played(script)


@pytest.mark.parametrize("size", [66_000, 180_000])
@pytest.mark.parametrize("piece", [50_000, 200_000])
def test_a_long_head_is_refused_wherever_its_pieces_begin_and_end(size: int, piece: int) -> None:
    long = b"x" * size
    chunked = POST.replace(b"content-length: 4", b"transfer-encoding: chunked")
    heads = [
        b"GET /%b HTTP/1.1\r\nhost: m\r\n\r\n" % long,
        b"GET / HTTP/1.1\r\nhost: m\r\nx-long: %b\r\n\r\n" % long,
        b"GET / HTTP/1.1\r\nhost: m\r\n%b\r\n" % (b"a: bcdef\r\n" * (size // 9)),
        chunked + b"0\r\nx-long: %b\r\n\r\n" % long,
        chunked + b"4;" + long * 8,  # without end: more than is read at a time
    ]

    async def script(app: Application, connect: Any, state: ServerState) -> None:
        for head in heads:
            async with opened(connect) as (reader, writer):
                for start in range(0, len(head), piece):
                    writer.write(head[start : start + piece])
                    await asyncio.sleep(0)
                status, sentence = await refused(reader)
                assert status == 431 and "65536 bytes" in sentence
        async with opened(connect) as (reader, writer):
            writer.write(POST + b"abcd" + b"GET /%b HTTP/1.1\r\nhost: m\r\n\r\n" % (b"x" * 60_000))
            assert [(await answer_of(reader))[2] for _ in range(2)] == [b"abcd", b""]

    played(script)


def test_of_thousands_of_requests_in_one_piece_some_are_answered() -> None:
    async def script(app: Application, connect: Any, state: ServerState) -> None:
        async with opened(connect) as (reader, writer):
            writer.write((POST + b"abcd") * 3000)
            answers = (await reader.read()).split(b"HTTP/1.1 200")[1:]
            assert len(answers) == 65 and all(answer.endswith(b"abcd") for answer in answers)

    played(script)


@pytest.mark.parametrize("more", [b"", b"connection: close\r\n"])
def test_a_caller_that_reads_no_answers_is_let_go(more: bytes) -> None:
    async def script(app: Application, connect: Any, state: ServerState) -> None:
        body = b"x" * 8_000_000
        async with opened(connect) as (reader, writer):
            writer.transport.pause_reading()
            writer.write(b"POST /a HTTP/1.1\r\nhost: m\r\n%bcontent-length: %d\r\n\r\n%b" % (more, len(body), body))
            await until(lambda: app.reading > 10)
            await until(lambda: not state.connections)
            writer.transport.resume_reading()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await answer_of(reader)

    played(script, seconds=0.4)


def test_a_caller_that_reads_slowly_gets_all_of_its_answer() -> None:
    async def script(app: Application, connect: Any, state: ServerState) -> None:
        body = b"x" * 8_000_000
        async with opened(connect) as (reader, writer):
            writer.write(b"POST /a HTTP/1.1\r\nhost: m\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            await reader.readuntil(b"\r\n\r\n")
            (connection,) = state.connections
            assert isinstance(connection, Connection)
            got = 0
            while got < len(body):
                left = connection.transport.get_write_buffer_size()
                while got < len(body) and connection.transport.get_write_buffer_size() >= left:
                    got += len(await reader.read(400_000))
                connection._undelivered()  # as if its time were over again and again
            assert got == len(body)

    played(script)
