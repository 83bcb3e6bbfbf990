"""One stack of real parts for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.manifests.monitoring.stack import Stack, running
from tests.predictor.serving.asking import answers_v1, many

OWN = [
    # Any distance of the cascade from its reference is too far, any latency too long: real traffic fires both.
    ({"threshold": "cascade_change_most"}, -1.0),
    ({"threshold": "latency_mean_seconds_most", "model_name": "toy"}, 0.0),
    ({"threshold": "accuracy_least", "model_name": "toy"}, 0.75),
]


@pytest.fixture(scope="session")
def stack(cascade_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(cascade_bundle, tmp_path_factory.mktemp("stack"), OWN) as parts:
        parts.push(accuracy=0.9)
        for _ in range(3):
            answers_v1(parts.predictor)
            ask(parts, "predict", many(40))
        yield parts


def ask(parts: Stack, what: str, texts: list[str]) -> None:
    address = f"{parts.predictor.http}/v1/models/toy:{what}"
    httpx.post(address, json={"instances": texts}, timeout=120).raise_for_status()
