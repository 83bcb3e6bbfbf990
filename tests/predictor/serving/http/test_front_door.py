"""The way in: which routes are ours, what bodies and answers may take, and what a caller hears."""

import asyncio
from typing import Any

import httpx

from predictor.errors import BadRequest, Draining, InternalError, Overloaded, TooLate
from predictor.serving.http.front_door import FrontDoor, Message
from predictor.serving.http.routes import Routes
from predictor.serving.memory import ByteBudget
from tests.predictor.serving.http.doors import V1, V2, FakeModel, asked, called, doored, scope_of, script_of


async def chunks(size: int, count: int) -> Any:
    for _ in range(count):
        yield b"x" * size


def test_the_two_routes_are_answered_here_and_the_rest_by_kserve() -> None:
    door, _ = doored()
    v1, v2, binary, get, load, nowhere = asked(
        door,
        ("POST", V1, {"content": b"abc", "headers": {"x-request-id": "r-1"}}),
        ("POST", V2, {"content": b"{}"}),
        ("POST", V2, {"content": b"{}", "headers": {"inference-header-content-length": "2"}}),
        ("GET", "/v2/health/live", {}),
        ("POST", "/v2/repository/models/m/load", {}),
        ("POST", "/v1/models/other:predict", {}),
    )
    assert v1.json() == {"length": 3} and v1.headers["x-request-id"] == "r-1"
    assert v1.headers["content-type"] == v2.headers["content-type"] == "application/json"
    assert binary.headers["inference-header-content-length"] == "2" and binary.content == b"{}rest"
    assert binary.headers["content-type"] == "application/octet-stream"
    assert get.status_code == load.status_code == 418
    assert nowhere.status_code == 404 and V1 in nowhere.json()["error"]


def test_each_refusal_has_its_status_and_says_when_to_come_again() -> None:
    for error, status, retry in (
        (BadRequest("b"), 400, None),
        (Overloaded("o", 7), 429, "7"),
        (InternalError("i"), 500, None),
        (Draining("d", 1), 503, "1"),
        (TooLate("l"), 504, None),
    ):
        door, model = doored()
        model.error = error
        (got,) = asked(door, ("POST", V1, {"content": b"x", "headers": {"x-request-id": "r"}}))
        assert (got.status_code, got.headers.get("retry-after"), got.json()) == (status, retry, {"error": str(error)})
        assert got.headers["x-request-id"] == "r"


def test_other_methods_and_compressed_bodies_are_refused_by_name() -> None:
    door, model = doored()
    get, zipped, plain = asked(
        door,
        ("GET", V2, {}),
        ("POST", V1, {"content": b"abc", "headers": {"content-encoding": "gzip"}}),
        ("POST", V1, {"content": b"abc", "headers": {"content-encoding": "identity"}}),
    )
    assert (get.status_code, get.headers["allow"]) == (405, "POST") and "send a POST" in get.json()["error"]
    assert zipped.status_code == 415 and "content-encoding gzip" in zipped.json()["error"]
    assert plain.json() == {"length": 3}
    assert model.counted == [("v1", 415)] and len(model.deadlines) == 1


def test_a_body_over_the_limit_is_a_413_whether_it_says_its_length_or_not() -> None:
    door, model = doored(limit=1000)
    exact, declared, chunked = asked(
        door,
        ("POST", V1, {"content": b"x" * 1000}),
        ("POST", V1, {"content": b"x" * 1001}),
        ("POST", V1, {"content": chunks(100, 50)}),
    )
    assert exact.json() == {"length": 1000}
    for refused in (declared, chunked):
        assert refused.status_code == 413 and "longer than 1000 bytes" in refused.json()["error"]
    assert len(model.deadlines) == 1
    assert model.counted == [("v1", 413)] * 2


def test_a_caller_that_waits_for_leave_to_send_too_much_gets_none() -> None:
    door, _ = doored(limit=1000)
    start, _ = called(door, scope_of(content_length="5000", expect="100-continue"))
    assert start["status"] == 413


def test_a_body_without_end_is_not_read_without_end() -> None:
    door, _ = doored(limit=1000)
    endless = {"type": "http.request", "body": b"x" * 900, "more_body": True}
    start, _ = called(door, scope_of(), *[endless] * 10)
    assert start["status"] == 413 and (b"connection", b"close") in start["headers"]


def test_nothing_is_said_to_a_caller_that_hung_up() -> None:
    whole = {"type": "http.request", "body": b"forever", "more_body": False}
    half = {"type": "http.request", "body": b"for", "more_body": True}
    gone = {"type": "http.disconnect"}
    door, model = doored()
    assert called(door, scope_of(), half, gone) == []
    assert (model.deadlines, model.cancelled) == ([], 0)
    assert called(door, scope_of(), whole, gone) == []
    assert model.cancelled == 1


def test_bodies_are_held_up_to_a_bound() -> None:
    door, _ = doored(limit=1000)

    async def flood() -> list[int]:
        transport: Any = httpx.ASGITransport(app=door)
        async with httpx.AsyncClient(transport=transport, base_url="http://m") as client:
            release = asyncio.Event()

            async def slow() -> Any:
                yield b"x" * 990
                await release.wait()

            async def post() -> int:
                return (await client.post(V1, content=slow())).status_code

            tasks = [asyncio.create_task(post()) for _ in range(20)]
            while sum(task.done() for task in tasks) < 4:
                await asyncio.sleep(0)
            release.set()
            return sorted(await asyncio.gather(*tasks))

    assert asyncio.run(flood()) == [200] * 16 + [429] * 4
    assert door._requests.bytes == door._answers.bytes == 0


def test_the_gateways_deadline_is_handed_on() -> None:
    door, model = doored()
    asked(door, ("POST", V1, {"headers": {"x-envoy-expected-rq-timeout-ms": "1500"}}), ("POST", V1, {}))
    assert model.deadlines == [b"1500", None]


def test_websockets_and_lifespan_are_kserves() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    model: Any = FakeModel()
    called(FrontDoor(app, Routes(model, {}), 10, ByteBudget(160), ByteBudget(160)), {"type": "lifespan"})
    assert seen == ["lifespan"]


def test_answers_are_held_up_to_a_bound_until_they_are_read() -> None:
    door, _ = doored(answers=100)

    async def flood() -> list[int]:
        statuses: list[int] = []
        read = asyncio.Event()

        async def ask() -> None:
            async def send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                    await read.wait()

            await door(scope_of(), script_of({"type": "http.request", "body": b"x"}), send)

        asked = [asyncio.create_task(ask()) for _ in range(12)]
        while len(statuses) < 12:
            await asyncio.sleep(0)
        read.set()
        await asyncio.gather(*asked)
        return sorted(statuses)

    refused = 12 - 100 // len(b'{"length": 1}')
    assert asyncio.run(flood()) == [200] * (12 - refused) + [429] * refused
    assert door._answers.bytes == 0


def test_a_long_answer_is_written_in_pieces() -> None:
    door, model = doored(answers=10**6)

    async def long(body: bytes, deadline: bytes | None, request_id: str) -> bytes:
        return b"0123456789" * 20_000

    model.answer_v1 = long  # type: ignore[method-assign]
    _, *parts = called(door, scope_of(), {"type": "http.request", "body": b"x"})
    assert b"".join(part["body"] for part in parts) == b"0123456789" * 20_000
    assert [part["more_body"] for part in parts] == [True] * 3 + [False]


def test_others_get_their_turn_between_the_pieces_of_a_long_answer() -> None:
    door, model = doored(answers=10**6)
    seen: list[str] = []

    async def long(body: bytes, deadline: bytes | None, request_id: str) -> bytes:
        asyncio.get_running_loop().call_soon(other)
        return b"x" * 300_000

    def other() -> None:
        seen.append("other")
        if seen[-2:] != ["other"] * 2:
            asyncio.get_running_loop().call_soon(other)

    async def send(message: Message) -> None:
        seen.append("piece")

    async def whole() -> None:
        await door(scope_of(), script_of({"type": "http.request", "body": b"x"}), send)

    model.answer_v1 = long  # type: ignore[method-assign]
    asyncio.run(whole())
    pieces = "".join(name[0] for name in seen).strip("o")
    assert pieces.count("p") == 6 and "ppp" not in pieces


def test_a_request_without_an_id_gets_one_that_its_answer_and_its_record_share() -> None:
    door, model = doored()
    given, event, none, empty, long, refused, labels = asked(
        door,
        ("POST", V1, {"content": b"x", "headers": {"x-request-id": "r-1", "ce-id": "e-1"}}),
        ("POST", V2, {"content": b"{}", "headers": {"ce-id": "e-1"}}),
        ("POST", V2, {"content": b"{}"}),
        ("POST", V1, {"content": b"x", "headers": {"x-request-id": ""}}),
        ("POST", V1, {"content": b"x", "headers": {"x-request-id": "y" * 2000}}),
        ("GET", V1, {}),
        ("POST", "/v1/models/m:feedback", {"content": b"{}"}),
    )
    assert [given.headers["x-request-id"], event.headers["x-request-id"]] == model.ids[:2] == ["r-1", "e-1"]
    new = [none.headers["x-request-id"], empty.headers["x-request-id"]]
    assert new == model.ids[2:4] and new[0] != new[1] and all(len(name) == 32 for name in new)
    assert model.ids[4] == "y" * 1024 and long.headers["x-request-id"] == "y" * 2000
    assert refused.status_code == 405 and len(refused.headers["x-request-id"]) == 32
    assert labels.json() == {"accepted": 1}
