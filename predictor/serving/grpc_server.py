"""A gRPC server with bounds on the memory and the time of its calls.

grpc reads any number of whole messages before it calls a handler. So each method is served as a stream here: a stream's
handler decides when a message is read, and on the wire a stream of one message is the same as a single message.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer

from predictor.errors import BadRequest, Late, Overloaded, Refusal
from predictor.serving.grpc_errors import StatusInterceptor
from predictor.serving.kserve_model import TextClassifier
from predictor.serving.memory import ByteBudget
from predictor.serving.scheduler import Limits
from predictor.tokens import TokenFile

SERVICE = "inference.GRPCInferenceService"
_INFER = f"/{SERVICE}/ModelInfer"
# Messages that may arrive at a time. Health checks wait while they are copied, which takes 7 ms for each of 8 MB.
_ARRIVING = 4
# Bytes a second for each of them: a place is free again only after the time that its message takes at this speed. It is
# far more than can be classified, and leaves most of the event loop's time to others.
_ARRIVAL_SPEED = 32 * 2**20
# Seconds that a message may take to arrive, and how many if others wait for its place.
_ARRIVAL_SECONDS = 30.0
_WANTED_SECONDS = 0.25
# Seconds that a message waits for a place.
_PATIENCE = 5.0
# The longest message of a call other than ModelInfer, which holds names only.
_SMALL = 65_536
# Milliseconds after which a connection is closed, and the grace for its open calls. Answers that a caller does not read
# are freed only with its connection. Clients reconnect by themselves.
_CONNECTION_AGE = 120_000
_CONNECTION_GRACE = 30_000


class MessageReader:
    """Reads the messages of calls, a few at a time.

    Args:
        seconds: how long a message may take to arrive.
        wanted: how long it may take if others wait for its place.
        patience: how long it waits for a place.
    """

    def __init__(
        self, seconds: float = _ARRIVAL_SECONDS, wanted: float = _WANTED_SECONDS, patience: float = _PATIENCE
    ) -> None:
        self._seconds = seconds
        self._wanted = wanted
        self._patience = patience
        self._places = asyncio.Semaphore(_ARRIVING)
        self._open: dict[asyncio.Timeout, float] = {}

    async def read(self, context: Any) -> bytes:
        """Return the message of a call.

        Raises:
            Late: it takes too long to arrive.
            Overloaded: no place got free in time.
        """
        now = asyncio.get_running_loop().time
        if self._places.locked():
            for limit, since in self._open.items():
                if not limit.expired():  # otherwise it is being cancelled already
                    limit.reschedule(max(now(), since + self._wanted))
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded("too many messages are on their way: send the request again in 1 s", 1) from None
        message = b""
        try:
            async with asyncio.timeout(self._seconds) as limit:
                self._open[limit] = now()
                try:
                    message = await context.read()
                finally:
                    del self._open[limit]
        except TimeoutError:
            raise Late(
                f"the message did not arrive within {self._seconds:g} s, or held up others: send it faster, or in parts"
            ) from None
        finally:
            asyncio.get_running_loop().call_later(len(message or b"") / _ARRIVAL_SPEED, self._places.release)
        if not isinstance(message, bytes):
            raise BadRequest("the call has no message: send one")
        return message


class MessageInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Reads the messages of all calls, answers ModelInfer, and passes the rest to KServe's handlers.

    Args:
        infer: answers a serialised ModelInferRequest with a serialised ModelInferResponse.
        requests: the budget of the messages that are not answered yet.
        answers: the budget of the answers that are not written yet.
        tokens: what callers of ModelInfer need one of; None where anybody may ask.
        refused: counts the status of a call that has none.
    """

    def __init__(
        self,
        infer: Callable[[bytes], Awaitable[bytes]],
        requests: ByteBudget,
        answers: ByteBudget,
        tokens: TokenFile | None = None,
        refused: Callable[[int], None] = lambda status: None,
    ) -> None:
        self._infer = infer
        self._tokens = tokens
        self._refused = refused
        self._requests = requests
        self._answers = answers
        self._large, self._small = MessageReader(), MessageReader()  # health checks do not wait for texts

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return a stream handler in place of a method's own."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None

        async def infer(_: Any, context: Any) -> None:
            self._check_token(context)
            answer = await self._answer(await self._large.read(context))
            try:
                self._answers.acquire(len(answer))
                await context.write(answer)
            finally:
                self._answers.release(len(answer))

        async def other(_: Any, context: Any) -> None:
            message = await self._small.read(context)
            if len(message) > _SMALL:
                raise BadRequest(f"the message is longer than {_SMALL} bytes: only texts take as many")
            request = handler.request_deserializer(message)
            if handler.unary_stream:
                await handler.unary_stream(request, context)
            else:
                await context.write(await handler.unary_unary(request, context))

        if handler_call_details.method == _INFER:
            return grpc.stream_stream_rpc_method_handler(infer)
        return grpc.stream_stream_rpc_method_handler(other, response_serializer=handler.response_serializer)

    def _check_token(self, context: Any) -> None:
        """Refuse a call without a token before its message is read."""
        if self._tokens is None:
            return
        given = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
        try:
            self._tokens.caller(given[0] if len(given) == 1 and isinstance(given[0], str) else "")
        except Refusal as refusal:
            self._refused(refusal.status)
            raise

    async def _answer(self, message: bytes) -> bytes:
        try:
            self._requests.acquire(len(message))
            return await self._infer(message)
        finally:
            self._requests.release(len(message))


class BoundedGrpcServer(GRPCServer):  # type: ignore[misc]
    """KServe's gRPC server with bounds, and with the standard health service.

    Args:
        args, kwargs: those of KServe's server.
        model: the model.
        limits: how long a message may be, and how long a call may take.
        requests, answers: the budgets of messages and answers.
        tokens: what callers need one of; None where anybody may ask.
    """

    def __init__(
        self,
        *args: Any,
        model: TextClassifier,
        limits: Limits,
        requests: ByteBudget,
        answers: ByteBudget,
        tokens: TokenFile | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._model = model
        self._limits = limits
        self._interceptor = MessageInterceptor(
            model.answer_grpc, requests, answers, tokens, lambda status: model.metrics.request("grpc", status, None)
        )
        self._health = health.aio.HealthServicer()

    async def start(self, max_workers: int) -> None:
        """Serve until `stop`."""
        for service in ("", self._model.name, SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._server = grpc.aio.server(interceptors=(StatusInterceptor(), self._interceptor), options=self._options())
        servicer = InferenceServicer(self._data_plane, self._model_repository_extension)
        grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_insecure_port(f"[::]:{self._port}")
        await self._server.start()
        await self._server.wait_for_termination()

    async def set_not_serving(self) -> None:
        """Change the health status to not serving, for callers of Check and Watch."""
        await self._health.enter_graceful_shutdown()

    def _options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.max_receive_message_length", self._limits.body_bytes),
            ("grpc.max_send_message_length", -1),  # answers are bounded before they are made
            # With the probe, callers may send megabytes before their messages are read.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.max_connection_age_ms", _CONNECTION_AGE),
            ("grpc.max_connection_age_grace_ms", _CONNECTION_GRACE + round(1000 * self._limits.timeout)),
        ]
