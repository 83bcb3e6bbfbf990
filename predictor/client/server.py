"""What every protocol has in common: the server that is asked, and the answers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from predictor.errors import InputError, Unavailable
from predictor.tokens import token_of

PROTOCOLS = {"v1": "http://localhost:8080", "v2": "http://localhost:8080", "grpc": "http://localhost:8081"}
"""Each protocol and where `pigeonhole serve` speaks it."""
TIMEOUT_SECONDS = 60.0
"""How long one request may take."""


@dataclass(frozen=True)
class Server:
    """Where a model is asked, and how."""

    protocol: str
    """One of PROTOCOLS."""
    url: str
    model: str
    """The name that the model is served under."""
    token_file: Path | None = None
    """A file with the bearer token that the server wants, which is read for each request, since tokens are renewed."""

    @classmethod
    def at(cls, protocol: str, url: str, model: str, token_file: Path | None = None) -> "Server":
        """Check the parts; an empty URL is where `pigeonhole serve` listens.

        Raises:
            InputError: the protocol is unknown, or the URL is not an http or https one.
        """
        if protocol not in PROTOCOLS:
            raise InputError(f"protocol {protocol} is unknown: choose {', '.join(PROTOCOLS)}")
        url = (url or PROTOCOLS[protocol]).rstrip("/")
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            good = None
        if not good:
            raise InputError(f"URL {url} is no address of a server: give one such as {PROTOCOLS[protocol]}")
        return cls(protocol, url, model, token_file)

    def authorization(self) -> dict[str, str]:
        """Return the header, or the metadata, that says who asks; nothing where there is no token.

        Raises:
            InputError: the file has no token.
        """
        return {"authorization": f"Bearer {token_of(self.token_file)}"} if self.token_file else {}


@dataclass(frozen=True)
class Answers:
    """Labels and confidences, each as many as texts and in their order, and the version of the model that gave them.

    A text without words has neither label nor confidence. The version is empty where no text has words, and where the
    server does not name it.
    """

    labels: list[str | None]
    """Of a model whose texts may have several labels: all of a text's, joined by `|`, in the order of the labels."""
    confidences: list[float | None]
    """Probabilities of the labels, from 0 to 1; of several labels, that of the least sure decision about one."""
    version: str
    scores: list[float | None] | None = None
    """From -1, the lowest label, to 1, the highest; None where the labels of the model have no order."""

    @classmethod
    def joined(cls, batches: Iterable["Answers"]) -> "Answers":
        """Return the answers of all batches as one; several versions, as during a rollout, are joined by commas."""
        labels: list[str | None] = []
        confidences: list[float | None] = []
        scores: list[float | None] = []
        versions: set[str] = set()
        for answers in batches:
            labels += answers.labels
            confidences += answers.confidences
            scores += answers.scores or [None] * len(answers.labels)
            versions.add(answers.version)
        has_scores = any(score is not None for score in scores)
        return cls(labels, confidences, ", ".join(sorted(versions - {""})), scores if has_scores else None)


AskOnce = Callable[[Sequence[str]], Answers]
"""Sends one request, without retries."""


class EmptyTextsFound(Exception):
    """The server says that texts of the request are empty after cleaning; `places` are their numbers, from 0 on."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__(f"texts {places} are empty")
        self.places = places


@contextmanager
def expecting_predictions(place: str) -> Iterator[None]:
    """Turn the errors of code that reads an answer into Unavailable: something else answers at that place."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unavailable(f"{place} answers, but not with predictions: check the URL and the protocol") from error
