"""Serves the trigger."""

import uvicorn

from pipelines.running.stopping import no_orphans
from pipelines.trigger.starters import Starter
from pipelines.trigger.state import State
from pipelines.trigger.web import application
from pipelines.trigger.worker import Metrics, Worker
from predictor.tokens import TokenFile

_GRACE_SECONDS = 10
_MOST_CONNECTIONS = 100


def serve(state: State, starter: Starter, token: TokenFile, model: str, address: str, port: int) -> None:
    """Serve until SIGTERM; what it started here ends with it, even if it is killed.

    Args:
        state: the trigger's state.
        starter: starts a run.
        token: what callers need.
        model: alerts on others are ignored.
        address: to listen on.
        port: to listen on.
    """
    metrics = Metrics()
    worker = Worker(state, starter, metrics)
    try:
        with no_orphans():
            uvicorn.run(
                application(state, worker, metrics, token, model), host=address, port=port, log_level="warning",
                access_log=False, server_header=False, limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )  # fmt: skip
    finally:
        state.close()
