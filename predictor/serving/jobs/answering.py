"""The texts of a chunk, each answered or refused by itself: one bad text fails alone."""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from predictor.errors import EMPTY_TEXT, Draining, EmptyTexts, NotNow
from predictor.serving.call import Row

log = logging.getLogger("pigeonhole")

Answer = Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]]
"""Gives the probabilities of texts, of shape (texts, labels)."""

FAULT = "the text cannot be classified: the server's log says why"
# The engine's texts are tried by themselves, so many at a time.
_TOGETHER = 16
_WAIT = 0.5


class Stopping(Exception):
    """The server stops, and takes no more texts."""


async def answer_each(answer: Answer, texts: Sequence[str]) -> list[Row | str]:
    """Return the probabilities of each text, or a sentence that says why it has none.

    Raises:
        Stopping: the server stops before all are answered.
    """
    answers: list[Row | str] = [EMPTY_TEXT] * len(texts)
    places = list(range(len(texts)))
    while places:
        try:
            rows = await _when_there_is_room(answer, [texts[place] for place in places])
        except EmptyTexts as blank:
            gone = {places[place] for place in blank.places}
            places = [place for place in places if place not in gone]
        except Stopping:
            raise
        except Exception as error:
            if len(places) == 1:
                trace = "".join(traceback.format_exception(error.__cause__ or error))
                log.error(orjson.dumps({"event": "text of a job failed", "error": trace}).decode())
                answers[places[0]] = FAULT
                return answers
            return await _one_by_one(answer, texts, answers, places)
        else:
            for place, row in zip(places, rows, strict=True):
                answers[place] = row
            return answers
    return answers


async def _one_by_one(
    answer: Answer, texts: Sequence[str], answers: list[Row | str], places: Sequence[int]
) -> list[Row | str]:
    """Answer texts one by one, since one of them makes the others fail."""
    for start in range(0, len(places), _TOGETHER):
        some = places[start : start + _TOGETHER]
        found = await asyncio.gather(*(answer_each(answer, [texts[place]]) for place in some))
        for place, (one,) in zip(some, found, strict=True):
            answers[place] = one
    return answers


async def _when_there_is_room(answer: Answer, texts: Sequence[str]) -> NDArray[np.float32]:
    while True:
        try:
            return await answer(texts)
        except Draining:
            raise Stopping from None
        except NotNow:
            await asyncio.sleep(_WAIT)
