"""What every step that posts to a cluster needs: the API server's reason in words."""

import json

from kubernetes.client.exceptions import ApiException


def message_of(error: ApiException) -> str:
    """Return the sentence in the API server's answer, on one line, or the reason where it has none."""
    try:
        text = json.loads(error.body)["message"]
    except (ValueError, KeyError, TypeError):
        text = error.reason
    return " ".join(str(text).split())[:300]
