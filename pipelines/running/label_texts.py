"""Label texts given on the command line with a running predictor."""

from collections.abc import Sequence
from typing import Any

from predictor.client import Answers, Server, ask
from predictor.errors import InputError


def predict_texts(server: Server, texts: Sequence[str]) -> dict[str, Any]:
    """Classify texts and return `model`, `model_version` and `predictions`: `text`, `label` and `confidence` of each,
    and `score` where the labels of the model have an order.

    Raises:
        InputError: there are no texts, one is blank or not UTF-8, or the server refuses one.
        Unavailable: the server does not answer.
    """
    check_texts(texts)
    answers = Answers.joined(ask(server, texts))
    if None in answers.labels:
        raise InputError(f"text {answers.labels.index(None) + 1} has no words: remove it or fill it in")
    rows = zip(texts, answers.labels, answers.confidences, strict=True)
    predictions: list[dict[str, Any]] = [
        {"text": text, "label": label, "confidence": confidence} for text, label, confidence in rows
    ]
    for prediction, score in zip(predictions, answers.scores or [], strict=False):
        prediction["score"] = score
    return {"model": server.model, "model_version": answers.version, "predictions": predictions}


def check_texts(texts: Sequence[str]) -> None:
    """Check that there are texts, and that all have words and can be sent.

    Raises:
        InputError: there are none, one is blank or not UTF-8.
    """
    if not texts:
        raise InputError("there are no texts: give at least one")
    if blank := [number for number, text in enumerate(texts, start=1) if not text.strip()]:
        raise InputError(f"text {blank[0]} has no words: remove it or fill it in")
    check_encoding(texts, "text")


def check_encoding(texts: Sequence[str], where: str) -> None:
    """Check that all texts can be sent as UTF-8.

    Args:
        texts: the texts.
        where: what the error message calls a text; its number follows.

    Raises:
        InputError: a text cannot be encoded.
    """
    for number, text in enumerate(texts, start=1):
        try:
            text.encode()
        except UnicodeEncodeError as error:  # Python decodes arguments in another encoding to surrogates
            raise InputError(f"{where} {number} is not UTF-8: give it in UTF-8") from error
