"""Does an answer depend on what shares its batch? Every text alone, and again among others."""

import random
from collections.abc import Callable

import numpy as np
import orjson
from numpy.typing import NDArray

from tests.benchmarks.serving.load import Load, Outcome, post

CALL = 64
_PATH = "/v2/models/{name}/infer"


def alone_and_mixed(
    send: Callable[[Load], Outcome], host: str, port: int, name: str, texts: list[str]
) -> tuple[int, float]:
    """Ask a running server for the probabilities of each text twice.

    Returns:
        (texts whose label is another one, the most any probability moves).

    Raises:
        RuntimeError: a request was refused.
    """
    order = list(range(len(texts)))
    random.Random(0).shuffle(order)
    alone = [[place] for place in order]
    mixed = [order[start : start + CALL] for start in range(0, len(order), CALL)]
    first, second = (
        _probabilities(send, host, port, name, texts, calls, connections)
        for calls, connections in ((alone, 1), (mixed, 4))
    )
    changed = int((first.argmax(axis=1) != second.argmax(axis=1)).sum())
    return changed, float(np.abs(first - second).max())


def _probabilities(
    send: Callable[[Load], Outcome],
    host: str,
    port: int,
    name: str,
    texts: list[str],
    calls: list[list[int]],
    connections: int,
) -> NDArray[np.float64]:
    """Return rows of probabilities in the order of `texts`; `calls` are places of texts asked together."""
    requests = []
    for places in calls:
        tensor = {"name": "text", "datatype": "BYTES", "shape": [len(places)], "data": [texts[n] for n in places]}
        body = orjson.dumps({"inputs": [tensor], "outputs": [{"name": "probabilities"}]})
        requests.append(post(host, _PATH.format(name=name), body))
    got = send(Load(host, port, requests, connections, keep=True))
    if got.errors or len(got.bodies) != len(calls):
        raise RuntimeError(f"{got.errors or 'answers are missing'} while each text was asked")
    rows: dict[int, list[float]] = {}
    for number, places in enumerate(calls):
        (output,) = orjson.loads(got.bodies[number])["outputs"]
        table = np.array(output["data"]).reshape(output["shape"])
        rows.update(zip(places, table.tolist(), strict=True))
    return np.array([rows[place] for place in range(len(texts))])
