"""The trigger's HTTP interface: POST /alerts for Alertmanager, /healthz, /metrics, and /runs for people."""

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipelines.trigger.alerts import alerts_in
from pipelines.trigger.state import Outcome, State, Taken
from pipelines.trigger.worker import MALFORMED, TOO_LARGE, UNAUTHORISED, UNREADY, Metrics, Worker
from predictor.errors import BadRequest, Unauthorised, Unsupported
from predictor.tokens import TokenFile

BODY_BYTES = 1_048_576
"""The longest webhook: a thousand alerts with long annotations."""


class _Web:
    def __init__(self, state: State, worker: Worker, metrics: Metrics, token: TokenFile, model: str) -> None:
        self._state, self._worker, self._metrics, self._token, self._model = state, worker, metrics, token, model

    async def alerts(self, request: Request) -> Response:
        """Take a webhook: first who sends it, then how long it is, then what it says."""
        try:
            self._token.caller(request.headers.get("authorization", ""))
        except Unsupported as error:
            return self._refuse(503, UNREADY, str(error))
        except Unauthorised as error:
            response = self._refuse(401, UNAUTHORISED, str(error))
            response.headers["www-authenticate"] = "Bearer"
            return response
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES:
                    return self._refuse(413, TOO_LARGE, f"the body is longer than {BODY_BYTES} bytes")
        except ClientDisconnect:
            return self._refuse(400, MALFORMED, "the body did not arrive")
        try:
            found = alerts_in(bytes(body), self._model)
        except BadRequest as error:
            return self._refuse(400, MALFORMED, str(error))
        taken = await run_in_threadpool(self._state.take, found, time.time())
        if taken.outcome is Outcome.STARTED:
            await run_in_threadpool(self._worker.look)
        self._metrics.webhooks.labels(taken.outcome).inc()
        _log(taken)
        return JSONResponse({"result": taken.outcome, "reason": taken.reason, "run": taken.run})

    async def healthz(self, request: Request) -> Response:
        """Answer whether runs are worked on, and the token can be read."""
        problems = [] if self._worker.works else ["runs are not worked on"]
        problems += [] if self._token.ready() else ["the token cannot be read"]
        return JSONResponse({"problems": problems}, 503 if problems else 200)

    async def metrics(self, request: Request) -> Response:
        """Show the metrics."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def runs(self, request: Request) -> Response:
        """List the runs, the latest first, for who has the token."""
        try:
            self._token.caller(request.headers.get("authorization", ""))
        except (Unsupported, Unauthorised) as error:
            return JSONResponse({"error": str(error)}, 401)
        return JSONResponse({"runs": await run_in_threadpool(self._state.runs)})

    def _refuse(self, status: int, result: str, sentence: str) -> JSONResponse:
        self._metrics.webhooks.labels(result).inc()
        print(f"pigeonhole: webhook refused: {sentence}", file=sys.stderr, flush=True)
        return JSONResponse({"error": sentence}, status)


def application(state: State, worker: Worker, metrics: Metrics, token: TokenFile, model: str) -> Starlette:
    """Return the ASGI application; the worker works while it is served. Alerts on other models are ignored."""
    web = _Web(state, worker, metrics, token, model)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        worker.start()
        try:
            yield
        finally:
            await run_in_threadpool(worker.stop)

    routes = [
        Route("/alerts", web.alerts, methods=["POST"]),
        Route("/healthz", web.healthz),
        Route("/metrics", web.metrics),
        Route("/runs", web.runs),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def _log(taken: Taken) -> None:
    run = f" run {taken.run}" if taken.run is not None else ""
    print(f"pigeonhole: webhook {taken.outcome}{run}: {taken.reason}", file=sys.stderr, flush=True)
