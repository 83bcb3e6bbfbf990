"""Refusals over a real gRPC connection."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from kserve.errors import ModelNotFound
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
    GRPCInferenceServiceServicer,
    GRPCInferenceServiceStub,
    add_GRPCInferenceServiceServicer_to_server,
)

from predictor.errors import BadRequest, Draining, InternalError, Overloaded, TooLarge, TooLate
from predictor.serving.grpc_errors import StatusInterceptor


class Refusing(GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [
        (BadRequest("send BYTES"), StatusCode.INVALID_ARGUMENT, None),
        (TooLarge("too long"), StatusCode.INVALID_ARGUMENT, None),
        (Overloaded("the queue is full", 7), StatusCode.RESOURCE_EXHAUSTED, "7"),
        (Draining("stopping", 1), StatusCode.UNAVAILABLE, "1"),
        (TooLate("too late"), StatusCode.DEADLINE_EXCEEDED, None),
        (InternalError("see the log"), StatusCode.INTERNAL, None),
        (ModelNotFound("other"), StatusCode.NOT_FOUND, None),
    ],
)
def test_each_refusal_has_its_status_its_sentence_and_says_when_to_come_again(
    error: Exception, code: StatusCode, retry: str | None
) -> None:
    async def asked() -> grpc.aio.AioRpcError:
        server = grpc.aio.server(interceptors=[StatusInterceptor()])
        add_GRPCInferenceServiceServicer_to_server(Refusing(error), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await GRPCInferenceServiceStub(channel).ModelInfer(pb.ModelInferRequest())
            return caught.value
        finally:
            await server.stop(None)

    told = asyncio.run(asked())
    assert (told.code(), told.details()) == (code, str(error))
    assert dict(told.trailing_metadata()).get("retry-after") == retry
