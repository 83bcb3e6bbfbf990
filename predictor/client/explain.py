"""Asking for an explanation, over V1, which alone has a place for it."""

import threading
from collections.abc import Mapping
from typing import Any

import httpx

from predictor.client.rest import post
from predictor.client.retry import retried
from predictor.client.server import TIMEOUT_SECONDS, Server, expecting_predictions


def explain(server: Server, text: str) -> tuple[Mapping[str, Any], str]:
    """Return how the answer to a text comes about, as the server says it, and the version of the model.

    Raises:
        InputError: the server refuses the text, or has not what explanations need.
        Unavailable: it does not answer, or not with an explanation.
        EmptyTextsFound: the text is empty after cleaning.
    """
    url = f"{server.url}/v1/models/{server.model}:explain"
    with httpx.Client(timeout=TIMEOUT_SECONDS) as client:
        body = retried(lambda: post(client, url, {"instances": [text]}, server.authorization()), threading.Event())
    with expecting_predictions(url):
        (explanation,) = body["explanations"]
        _ = [(word["text"], word["attribution"]) for word in explanation["words"]]
        return explanation, str(body.get("model_version", ""))
