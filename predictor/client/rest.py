"""One request over REST, V1 or V2."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from predictor.client.retry import Busy, seconds_to_wait
from predictor.client.server import TIMEOUT_SECONDS, Answers, AskOnce, EmptyTextsFound, Server, expecting_predictions
from predictor.errors import InputError, Unavailable, one_line
from predictor.label_sets import label_of


@contextmanager
def connected(server: Server) -> Iterator[AskOnce]:
    """Keep connections to a server that is asked over V1 or V2 REST.

    Yields:
        a function that sends one request. It raises Busy, EmptyTextsFound, InputError and Unavailable.
    """
    ask_once = _ask_v1 if server.protocol == "v1" else _ask_v2
    with httpx.Client(timeout=TIMEOUT_SECONDS) as client:
        yield lambda texts: ask_once(client, server, texts)


def _ask_v1(client: httpx.Client, server: Server, texts: Sequence[str]) -> Answers:
    url = f"{server.url}/v1/models/{server.model}:predict"
    body = post(client, url, {"instances": list(texts)}, server.authorization())
    with expecting_predictions(url):
        rows = body["predictions"]
        labels: list[str | None] = [label_of(row) for row in rows]
        confidences = [row["confidence"] for row in rows]
        scores = [row["score"] for row in rows] if rows and "score" in rows[0] else None
        return Answers(labels, confidences, str(body.get("model_version", "")), scores)


def _ask_v2(client: httpx.Client, server: Server, texts: Sequence[str]) -> Answers:
    url = f"{server.url}/v2/models/{server.model}/infer"
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}
    body = post(client, url, {"inputs": [tensor]}, server.authorization())
    with expecting_predictions(url):
        outputs = {output["name"]: output["data"] for output in body["outputs"]}
        version = str(body.get("model_version", ""))
        labels = outputs["labels"] if "labels" in outputs else outputs["label"]
        return Answers(labels, outputs["confidence"], version, outputs.get("score"))


def post(client: httpx.Client, url: str, body: dict[str, Any], headers: Mapping[str, str]) -> Any:
    """Send one request, and return the JSON of its answer.

    Raises:
        Busy: the server may answer later.
        EmptyTextsFound: texts of the request are empty after cleaning.
        InputError: it refuses the request, or has not what the answer needs.
        Unavailable: it gives no answer, or one that is no JSON.
    """
    try:
        answer = client.post(url, json=body, headers=headers)
    except httpx.TimeoutException as error:
        raise Unavailable(f"{url} gave no answer in {TIMEOUT_SECONDS:g} s: look at the server") from error
    except httpx.TransportError as error:
        raise Busy(f"{url} cannot be reached ({error})") from error
    if answer.status_code in (429, 503):
        raise Busy(f"{url} answers {_reason(answer)}", seconds_to_wait(answer.headers.get("retry-after", "")))
    if answer.status_code == 400 and (places := _empty_texts(answer)):
        raise EmptyTextsFound(places)
    if answer.status_code == 401:
        raise InputError(f"{url} answers {_reason(answer)}: name the token's file with --token-file")
    if answer.status_code == 501:
        raise InputError(f"{url} answers {_reason(answer)}")
    if answer.is_client_error:
        raise InputError(f"{url} answers {_reason(answer)}: check the URL, the model's name and the texts")
    if not answer.is_success:
        raise Unavailable(f"{url} answers {_reason(answer)}: look at the server's log")
    with expecting_predictions(url):
        return answer.json()


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
