"""What is served at which path, by which method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from predictor.serving.http.messages import Answer, Asked, Handler
from predictor.serving.http.rest import Rest
from predictor.serving.kserve_model import TextClassifier

_BINARY = (b"content-type", b"application/octet-stream")
_LENGTH = b"inference-header-content-length"


@dataclass(frozen=True)
class Route:
    """What is served at a path."""

    methods: Mapping[str, Handler]
    count: Callable[[int], None] = lambda status: None
    """Counts the status of a refused request that does not reach a handler."""
    guarded: bool = True
    """Whether it takes a token, where there are tokens."""


class Routes:
    """The routes of one model.

    Args:
        model: the model.
        pages: pages for people, by path.
    """

    def __init__(self, model: TextClassifier, pages: Mapping[str, Handler]) -> None:
        self._model = model
        names, metrics = model.names, model.metrics
        v1, rest = f"/v1/models/{model.name}", f"/v1/{names.verb}"
        self.advice = f"POST to {v1}:predict, /v2/models/{model.name}/infer or {rest}; /docs lists the rest"
        """For callers of paths that are not served."""
        asked = Rest(model)

        def counted(protocol: str) -> Callable[[int], None]:
            return lambda status: metrics.request(protocol, status, 0.0)

        self._below = {
            f"{rest}/status/": Route({"GET": asked.status, "DELETE": asked.cancel}, counted("rest")),
            f"{rest}/results/": Route({"GET": asked.results}, counted("rest")),
        }
        self._exact = {
            f"{v1}:predict": Route({"POST": self._v1}, counted("v1")),
            f"/v2/models/{model.name}/infer": Route({"POST": self._v2}, counted("v2")),
            f"{v1}:explain": Route({"POST": self._explain}, lambda status: metrics.explanation(status, 0.0)),
            f"{v1}:feedback": Route({"POST": self._feedback}, lambda status: metrics.feedback(refused=1)),
            rest: Route({"POST": asked.one}, counted("rest")),
            f"{rest}/batch": Route({"POST": asked.batch}, counted("rest")),
            **{path: Route({"GET": page, "HEAD": page}, guarded=False) for path, page in pages.items()},
        }

    def find(self, path: str) -> tuple[Route, str] | None:
        """Return the route of a path, and the id of the job that it ends with, which is empty where there is none."""
        if route := self._exact.get(path):
            return route, ""
        for start, route in self._below.items():
            if path.startswith(start) and "/" not in (job := path[len(start) :]) and job:
                return route, job
        return None

    async def _v1(self, asked: Asked) -> Answer:
        return Answer(await self._model.answer_v1(asked.body, asked.deadline, asked.id))

    async def _explain(self, asked: Asked) -> Answer:
        return Answer(await self._model.explain_v1(asked.body, asked.deadline))

    async def _feedback(self, asked: Asked) -> Answer:
        return Answer(await self._model.feedback_v1(asked.body))

    async def _v2(self, asked: Asked) -> Answer:
        given = asked.headers.get(_LENGTH)
        length = None if given is None else given.decode("latin-1")
        answer, head = await self._model.answer_v2(asked.body, length, asked.deadline, asked.id)
        return Answer(answer) if head is None else Answer(answer, (_BINARY, (_LENGTH, str(head).encode())))
