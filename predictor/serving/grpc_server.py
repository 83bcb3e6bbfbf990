"""gRPC calls that give back what they hold.

grpc reads a message whole before it asks anybody, whatever number of them arrives. So here a message is read only when
there is room for one, through grpc's interface for streams: on the wire a stream of one message is like a message.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer

from predictor.errors import BadRequest, Late, Overloaded
from predictor.serving.grpc_errors import StatusInterceptor
from predictor.serving.kserve_model import TextClassifier
from predictor.serving.memory import ByteBudget
from predictor.serving.scheduler import Limits

SERVICE = "inference.GRPCInferenceService"
_INFER = f"/{SERVICE}/ModelInfer"
# Messages that may be on their way at a time: health waits while so many are copied, which takes 7 ms each at 8 MB. And
# seconds one may take: fewer where others wait for its place.
_ARRIVING = 4
# Bytes a second that one place takes: the next message starts when the time of the last one has passed. Far more texts
# than can be classified, and the copies leave the event loop to others for most of the time.
_ARRIVAL_SPEED = 32 * 2**20
_ARRIVAL_SECONDS = 30.0
_WANTED_SECONDS = 0.25
# Seconds a message waits for such a place.
_PATIENCE = 5.0
# The longest message that asks for anything but a classification: names, and nothing else.
_SMALL = 65_536
# Milliseconds that a connection lives, and more of them for calls that are under way: what a caller does not read is
# given back with its connection, there is no other way. Clients connect again by themselves.
_CONNECTION_AGE = 120_000
_CONNECTION_GRACE = 30_000


class MessageReader:
    """Messages that are on their way, so many at a time.

    Args:
        seconds: how long one may take.
        wanted: how long one may take that holds up others.
        patience: how long one waits until it may start.
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
            Late: it takes too long.
            Overloaded: too many others do.
        """
        now = asyncio.get_running_loop().time
        if self._places.locked():
            for limit, since in self._open.items():
                if not limit.expired():  # its message is being given up
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
    """Reads the messages of all calls, answers those for the model itself, and hands the rest on.

    Args:
        infer: answers a ModelInferRequest with a ModelInferResponse, both as they are on the wire.
        requests: counts the messages that are not answered yet.
        answers: counts the answers that are not written yet.
    """

    def __init__(self, infer: Callable[[bytes], Awaitable[bytes]], requests: ByteBudget, answers: ByteBudget) -> None:
        self._infer = infer
        self._requests = requests
        self._answers = answers
        self._large, self._small = MessageReader(), MessageReader()  # health does not wait for texts

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Take the place of a method's handler."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None

        async def infer(_: Any, context: Any) -> None:
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

    async def _answer(self, message: bytes) -> bytes:
        try:
            self._requests.acquire(len(message))
            return await self._infer(message)
        finally:
            self._requests.release(len(message))


class BoundedGrpcServer(GRPCServer):  # type: ignore[misc]
    """KServe's gRPC server with bounds, and with the health service that Kubernetes and meshes ask.

    Args:
        args, kwargs: KServe's.
        model: what answers.
        limits: how long a message may be, and a call take.
        requests, answers: count what is held.
    """

    def __init__(
        self,
        *args: Any,
        model: TextClassifier,
        limits: Limits,
        requests: ByteBudget,
        answers: ByteBudget,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._model = model
        self._limits = limits
        self._interceptor = MessageInterceptor(model.answer_grpc, requests, answers)
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

    async def say_stopping(self) -> None:
        """Say not serving, to whom asks and to whom watches."""
        await self._health.enter_graceful_shutdown()

    def _options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.max_receive_message_length", self._limits.body_bytes),
            ("grpc.max_send_message_length", -1),  # an answer is bounded before it is made
            # It lets callers send megabytes ahead that nobody has asked for.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.max_connection_age_ms", _CONNECTION_AGE),
            ("grpc.max_connection_age_grace_ms", _CONNECTION_GRACE + round(1000 * self._limits.timeout)),
        ]
