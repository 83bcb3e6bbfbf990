"""A client of a predictor: texts in, answers out, the same over V1, V2 REST and V2 gRPC."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from predictor.errors import InputError, one_line

PROTOCOLS = {"v1": "http://localhost:8080", "v2": "http://localhost:8080", "grpc": "http://localhost:8081"}
"""Each protocol and where `pigeonhole serve` speaks it."""
# Small enough for a progress bar that moves and a server that stays fair; in flight so that it never waits for us.
BATCH_TEXTS = 64
IN_FLIGHT = 4
_TIMEOUT_SECONDS = 60.0
# Waits where the server names none; each is a retry.
_WAITS = (0.25, 0.5, 1.0, 2.0, 4.0)
# A server that asks for more is not coming back for this call.
_LONGEST_WAIT = 60.0


class ServerFailed(RuntimeError):
    """The predictor is away, overloaded for long, or broken; the same call may succeed later."""


class _Busy(Exception):
    """The server cannot answer now; `wait` is how many seconds it asks for, None where it does not say."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Empty(Exception):
    """The server says that texts of the request are empty after cleaning; `places` are their numbers."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__(f"texts {places} are empty")
        self.places = places


@dataclass(frozen=True)
class Server:
    """Where a model is asked, and how."""

    protocol: str
    url: str
    model: str

    @classmethod
    def at(cls, protocol: str, url: str, model: str) -> "Server":
        """Check the parts; an empty URL is where `pigeonhole serve` listens.

        Raises:
            InputError: an unknown protocol, or no http or https URL.
        """
        if protocol not in PROTOCOLS:
            raise InputError(f"--protocol {protocol} is unknown: choose {', '.join(PROTOCOLS)}")
        url = (url or PROTOCOLS[protocol]).rstrip("/")
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            good = None
        if not good:
            raise InputError(f"--url {url} is no address of a server: give one such as {PROTOCOLS[protocol]}")
        return cls(protocol, url, model)


@dataclass(frozen=True)
class Answers:
    """Labels and confidences in the order of the texts, and the version of the model that gave them.

    A text without words has no label; the version is empty where none of the texts has any.
    """

    labels: list[str | None]
    confidences: list[float | None]
    version: str


_Ask = Callable[[Sequence[str]], Answers]


def ask(server: Server, texts: Sequence[str]) -> Iterator[Answers]:
    """Ask for all texts, several batches at a time, and yield the batches' answers in order.

    Raises:
        InputError: the server refuses a batch.
        ServerFailed: it does not answer, or not with predictions.
    """
    batches = [texts[start : start + BATCH_TEXTS] for start in range(0, len(texts), BATCH_TEXTS)]
    over = threading.Event()
    with _connected(server) as once, ThreadPoolExecutor(IN_FLIGHT) as pool:
        try:
            yield from pool.map(lambda batch: _with_words(once, batch, over), batches)
        finally:
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _with_words(once: _Ask, texts: Sequence[str], over: threading.Event) -> Answers:
    """Ask for the texts that have words: a blank one is not sent, and one that the server finds empty not again."""
    places = [place for place, text in enumerate(texts) if text.strip()]
    answers = Answers([], [], "")
    while places:
        try:
            answers = _patiently(once, [texts[place] for place in places], over)
            break
        except _Empty as found:
            empty = set(found.places)
            left = [place for number, place in enumerate(places) if number not in empty]
            if len(left) == len(places):
                raise ServerFailed(f"{len(places)} texts were sent and {found}: this is no predictor of ours") from None
            places = left
    labels: list[str | None] = [None] * len(texts)
    confidences: list[float | None] = [None] * len(texts)
    for place, label, confidence in zip(places, answers.labels, answers.confidences, strict=True):
        labels[place], confidences[place] = label, confidence
    return Answers(labels, confidences, answers.version)


def _patiently(once: _Ask, texts: Sequence[str], over: threading.Event) -> Answers:
    """Ask until there is an answer; a server that asks to wait is given the time it names."""
    for pause in (*_WAITS, None):
        try:
            answers = once(texts)
        except _Busy as busy:
            wait = pause if busy.wait is None else busy.wait
            if pause is None or wait is None or wait > _LONGEST_WAIT or over.wait(wait):
                after = f", and asks to wait {wait:g} s" if wait is not None and wait > _LONGEST_WAIT else ""
                raise ServerFailed(f"{busy}{after}: look at the server or try later") from busy
            continue
        if len(answers.labels) == len(answers.confidences) == len(texts):
            return answers
        raise ServerFailed(f"{len(texts)} texts got {len(answers.labels)} answers: this is no predictor of ours")
    raise AssertionError("the last try either answers or raises")


@contextmanager
def _connected(server: Server) -> Iterator[_Ask]:
    if server.protocol == "grpc":
        with _grpc(server) as once:
            yield once
        return
    with httpx.Client(timeout=_TIMEOUT_SECONDS) as client:
        rest = _v1 if server.protocol == "v1" else _v2
        yield lambda texts: rest(client, server, texts)


def _v1(client: httpx.Client, server: Server, texts: Sequence[str]) -> Answers:
    url = f"{server.url}/v1/models/{server.model}:predict"
    body = _post(client, url, {"instances": list(texts)})
    with _understood(url):
        rows = body["predictions"]
        return Answers(
            [row["label"] for row in rows], [row["confidence"] for row in rows], str(body.get("model_version", ""))
        )


def _v2(client: httpx.Client, server: Server, texts: Sequence[str]) -> Answers:
    url = f"{server.url}/v2/models/{server.model}/infer"
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}
    body = _post(client, url, {"inputs": [tensor]})
    with _understood(url):
        outputs = {output["name"]: output["data"] for output in body["outputs"]}
        return Answers(outputs["label"], outputs["confidence"], str(body.get("model_version", "")))


def _post(client: httpx.Client, url: str, body: dict[str, Any]) -> Any:
    try:
        answer = client.post(url, json=body)
    except httpx.TimeoutException as error:
        raise ServerFailed(f"{url} gave no answer in {_TIMEOUT_SECONDS:g} s: look at the server") from error
    except httpx.TransportError as error:
        raise _Busy(f"{url} cannot be reached ({error})") from error
    if answer.status_code in (429, 503):
        raise _Busy(f"{url} answers {_reason(answer)}", _seconds(answer.headers.get("retry-after", "")))
    if answer.status_code == 400 and (places := _empty_texts(answer)):
        raise _Empty(places)
    if answer.is_client_error:
        raise InputError(f"{url} answers {_reason(answer)}: check --url, --model-name and the texts")
    if not answer.is_success:
        raise ServerFailed(f"{url} answers {_reason(answer)}: look at the server's log")
    with _understood(url):
        return answer.json()


@contextmanager
def _understood(url: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServerFailed(f"{url} answers, but not with predictions: check --url and --protocol") from error


def _reason(answer: httpx.Response) -> str:
    """Return the status and the server's own sentence, on one line."""
    try:
        said = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        said = answer.text or answer.reason_phrase
    return f"{answer.status_code} ({one_line(said)})"


def _empty_texts(answer: httpx.Response) -> list[int]:
    """Return the numbers of the texts that the server found empty; none where it complains of something else."""
    try:
        return [int(place) for place in answer.json()["empty"]]
    except (ValueError, KeyError, TypeError):
        return []


def _seconds(retry_after: str) -> float | None:
    """Read a Retry-After header, seconds or a date; None for neither."""
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


@contextmanager
def _grpc(server: Server) -> Iterator[_Ask]:
    import grpc

    # kserve parses sys.argv while it is imported, and would refuse our --protocol.
    argv, sys.argv = sys.argv, sys.argv[:1]
    try:
        from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
        from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
    finally:
        sys.argv = argv
    busy = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    refused = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)
    parts = urlsplit(server.url)
    secure = parts.scheme == "https"
    target = f"{parts.netloc}" if parts.port else f"{parts.netloc}:{443 if secure else 80}"
    credentials = grpc.ssl_channel_credentials() if secure else None

    def once(texts: Sequence[str]) -> Answers:
        contents = pb.InferTensorContents(bytes_contents=[text.encode() for text in texts])
        tensor = pb.ModelInferRequest.InferInputTensor(
            name="text", datatype="BYTES", shape=[len(texts)], contents=contents
        )
        try:
            answer = stub.ModelInfer(
                pb.ModelInferRequest(model_name=server.model, inputs=[tensor]), timeout=_TIMEOUT_SECONDS
            )
        except grpc.RpcError as error:
            reason = f"{target} answers {error.code().name} ({one_line(error.details() or '')})"
            if error.code() in busy:
                told = dict(error.trailing_metadata() or ()).get("retry-after", "")
                raise _Busy(reason, _seconds(str(told))) from error
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                numbers = str(dict(error.trailing_metadata() or ()).get("empty-texts", "")).split(",")
                if places := [int(number) for number in numbers if number.isdecimal()]:
                    raise _Empty(places) from error
            if error.code() in refused:
                raise InputError(f"{reason}: check --url, --model-name and the texts") from error
            raise ServerFailed(f"{reason}: look at the server's log") from error
        with _understood(target):
            found = {output.name: output.contents for output in answer.outputs}
            labels = [label.decode() for label in found["label"].bytes_contents]
            return Answers(labels, list(found["confidence"].fp32_contents), answer.model_version)

    channel = grpc.secure_channel(target, credentials) if secure else grpc.insecure_channel(target)
    with channel:
        stub = GRPCInferenceServiceStub(channel)
        yield once
