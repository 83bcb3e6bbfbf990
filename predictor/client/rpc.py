"""One request over gRPC, the V2 protocol."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import grpc

from predictor.client.messages import METHOD, ModelInferRequest, ModelInferResponse
from predictor.client.retry import Busy, seconds_to_wait
from predictor.client.server import TIMEOUT_SECONDS, Answers, AskOnce, EmptyTextsFound, Server, expecting_predictions
from predictor.errors import InputError, Unavailable, one_line

_BUSY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)


@contextmanager
def connected(server: Server) -> Iterator[AskOnce]:
    """Keep a channel to a server that is asked over gRPC; TLS where its URL is an https one.

    Yields:
        a function that sends one request. It raises Busy, EmptyTextsFound, InputError and Unavailable.
    """
    parts = urlsplit(server.url)
    secure = parts.scheme == "https"
    target = parts.netloc if parts.port else f"{parts.netloc}:{443 if secure else 80}"
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials()) if secure else grpc.insecure_channel(target)
    with channel:
        infer = channel.unary_unary(
            METHOD,
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )

        def ask_once(texts: Sequence[str]) -> Answers:
            try:
                metadata = tuple(server.authorization().items())
                response = infer(_request(server.model, texts), timeout=TIMEOUT_SECONDS, metadata=metadata)
            except grpc.RpcError as error:
                raise _translated(error, target) from error
            with expecting_predictions(target):
                outputs = {output.name: output.contents for output in response.outputs}
                said = outputs["labels" if "labels" in outputs else "label"]
                labels = [label.decode() for label in said.bytes_contents]
                scores = list(outputs["score"].fp32_contents) if "score" in outputs else None
                return Answers(labels, list(outputs["confidence"].fp32_contents), response.model_version, scores)

        yield ask_once


def _request(model: str, texts: Sequence[str]) -> ModelInferRequest:
    contents = {"bytes_contents": [text.encode() for text in texts]}
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "contents": contents}
    return ModelInferRequest(model_name=model, inputs=[tensor])


def _translated(error: grpc.RpcError, target: str) -> Exception:
    """Return what the status of a call means to the caller."""
    code, metadata = error.code(), dict(error.trailing_metadata() or ())
    reason = f"{target} answers {code.name} ({one_line(error.details() or '')})"
    if code in _BUSY:
        return Busy(reason, seconds_to_wait(str(metadata.get("retry-after", ""))))
    numbers = str(metadata.get("empty-texts", "")).split(",")
    if code is grpc.StatusCode.INVALID_ARGUMENT and (places := [int(n) for n in numbers if n.isdecimal()]):
        return EmptyTextsFound(places)
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return InputError(f"{reason}: name the token's file with --token-file")
    if code in _REFUSED:
        return InputError(f"{reason}: check the URL, the model's name and the texts")
    return Unavailable(f"{reason}: look at the server's log")
