"""Asking for many texts: in batches, several at a time, each until it is answered."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from predictor.client import rest
from predictor.client.retry import retried
from predictor.client.server import Answers, AskOnce, EmptyTextsFound, Server
from predictor.errors import Unavailable

# Small enough for a progress bar that moves and a server that stays fair; in flight so that it never waits for us.
BATCH_TEXTS = 64
IN_FLIGHT = 4


def ask(server: Server, texts: Sequence[str]) -> Iterator[Answers]:
    """Ask for all texts, several batches at a time.

    Args:
        server: the server and the model.
        texts: any number. A text without words gets no label, and does not disturb the others.

    Yields:
        the answers of a batch, batches in the order of the texts.

    Raises:
        InputError: the server refuses a batch.
        Unavailable: the server does not answer, or not with predictions.
    """
    batches = [texts[start : start + BATCH_TEXTS] for start in range(0, len(texts), BATCH_TEXTS)]
    stopped = threading.Event()
    with _connected(server) as ask_once, ThreadPoolExecutor(IN_FLIGHT) as pool:
        try:
            yield from pool.map(lambda batch: _answered(ask_once, batch, stopped), batches)
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _connected(server: Server) -> AbstractContextManager[AskOnce]:
    if server.protocol != "grpc":
        return rest.connected(server)
    from predictor.client import rpc  # only here, so that REST needs neither grpcio nor protobuf

    return rpc.connected(server)


def _answered(ask_once: AskOnce, texts: Sequence[str], stopped: threading.Event) -> Answers:
    """Ask for the texts that have words: a blank one is not sent, and one that the server finds empty not again."""
    places = [place for place, text in enumerate(texts) if text.strip()]
    answers = Answers([], [], "")
    while places:
        try:
            answers = _complete(ask_once, [texts[place] for place in places], stopped)
            break
        except EmptyTextsFound as found:
            empty = set(found.places)
            left = [place for number, place in enumerate(places) if number not in empty]
            if len(left) == len(places):
                raise Unavailable(f"{len(places)} texts were sent and {found}: this is no predictor of ours") from None
            places = left
    labels: list[str | None] = [None] * len(texts)
    confidences: list[float | None] = [None] * len(texts)
    scores: list[float | None] = [None] * len(texts)
    given = answers.scores or [None] * len(places)
    for place, label, confidence, score in zip(places, answers.labels, answers.confidences, given, strict=True):
        labels[place], confidences[place], scores[place] = label, confidence, score
    return Answers(labels, confidences, answers.version, scores if answers.scores else None)


def _complete(ask_once: AskOnce, texts: Sequence[str], stopped: threading.Event) -> Answers:
    """Ask with retries, and refuse an answer that has not one label a text."""
    answers = retried(lambda: ask_once(texts), stopped)
    scores = answers.scores if answers.scores is not None else answers.labels
    if len(answers.labels) == len(answers.confidences) == len(scores) == len(texts):
        return answers
    raise Unavailable(f"{len(texts)} texts got {len(answers.labels)} answers: this is no predictor of ours")
