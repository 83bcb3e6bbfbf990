"""A client of Prometheus's HTTP API."""

import json
from typing import Any

import urllib3

from predictor.errors import InputError, Unavailable, one_line

_TIMEOUT_SECONDS = 10.0


class QueryRefused(InputError):
    """Prometheus does not understand the query."""


def query_range(url: str, query: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
    """Return the result of a range query: for each series its `metric`, label by label, and its `values`.

    Args:
        url: Prometheus's address.
        query: PromQL.
        start: of the first value, in Unix seconds.
        end: of the last.
        step: seconds between two values.

    Raises:
        Unavailable: there is no answer now.
        QueryRefused: the query is wrong.
        InputError: the address is not that of a Prometheus.
    """
    fields = {"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
    try:
        answer = urllib3.request(
            "GET", f"{url.rstrip('/')}/api/v1/query_range", fields=fields, timeout=_TIMEOUT_SECONDS,
            retries=urllib3.Retry(2, backoff_factor=0.5),
        )  # fmt: skip
    except urllib3.exceptions.LocationValueError as error:
        raise InputError(f"{url} is no address: give Prometheus's, such as http://prometheus:9090") from error
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(f"Prometheus at {url} does not answer ({type(error).__name__})") from error
    try:
        body = json.loads(answer.data)
        if body["status"] == "success":
            return list(body["data"]["result"])
        reason = one_line(body["error"])
    except (ValueError, KeyError, TypeError):
        if answer.status >= 500:  # a proxy in front of it, while it is away
            raise Unavailable(f"Prometheus at {url} answers {answer.status}") from None
        raise InputError(f"{url} answers, but not as Prometheus does: give its address") from None
    if answer.status == 400:
        raise QueryRefused(f"Prometheus refuses the query ({reason})")
    raise Unavailable(f"Prometheus at {url} cannot answer ({reason})")
