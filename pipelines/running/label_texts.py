"""Labels for texts of the command line, from a predictor that runs somewhere."""

from collections.abc import Sequence
from typing import Any

from predictor.client import Answers, Server, ask
from predictor.errors import InputError


def predict_texts(server: Server, texts: Sequence[str]) -> dict[str, Any]:
    """Ask for texts and return `model`, `model_version` and `predictions`: `text`, `label` and `confidence` of each.

    Raises:
        InputError: a text is blank, or the server refuses one.
        Unavailable: the server does not answer.
    """
    check_texts(texts, "text")
    answers = Answers.joined(ask(server, texts))
    if None in answers.labels:
        raise InputError(f"text {answers.labels.index(None) + 1} has no words: remove it or fill it in")
    rows = zip(texts, answers.labels, answers.confidences, strict=True)
    predictions = [{"text": text, "label": label, "confidence": confidence} for text, label, confidence in rows]
    return {"model": server.model, "model_version": answers.version, "predictions": predictions}


def check_texts(texts: Sequence[object], where: str, blank: bool = False) -> None:
    """Refuse what is no text, before the first request.

    Args:
        texts: what was given.
        where: what the sentence names before a text's number.
        blank: whether texts may be blank.

    Raises:
        InputError: there are none, one is not a string or blank, or one is not UTF-8.
    """
    if not texts:
        raise InputError(f"{where.removesuffix(', row')} has no texts: give at least one")
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str) or not (blank or text.strip()):
            raise InputError(f"{where} {number} has no words: remove it or fill it in")
        try:
            text.encode()
        except UnicodeEncodeError as error:  # so Python hands over what the shell gave it in another encoding
            raise InputError(f"{where} {number} is not UTF-8: give it in UTF-8") from error
