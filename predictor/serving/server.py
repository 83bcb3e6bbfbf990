"""The KServe model server around one text classifier, with workarounds for kserve 0.21."""

import asyncio
import gc
import logging
import os
import re
import socket
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from predictor.errors import InputError
from predictor.model.bundle import Precision
from predictor.serving.scheduler import Limits

if TYPE_CHECKING:
    from predictor.model.cascade import Cascade
    from predictor.serving.http.access import Access
    from predictor.serving.kserve_model import TextClassifier
    from predictor.serving.prediction_log.log import LogSettings

GRACE_SECONDS = 30
# How many bodies and gRPC messages of the greatest length may be held at a time, and how many bytes of answers: memory
# is bounded however many callers send, and however many do not read.
BODIES = 16
ANSWER_BYTES = 128 * 2**20


def serve(
    bundle: Path,
    model_name: str,
    http_port: int,
    grpc_port: int,
    limits: Limits,
    revision: str = "",
    precision: str = "",
    cascade: bool = True,
    log: "LogSettings | None" = None,
    redis_url: str = "",
    access: "Access | None" = None,
) -> None:
    """Serve a bundle until SIGTERM or SIGINT, then finish what was accepted and return.

    Nothing listens before the model has answered once. The server is one process with a lane for each CPU it may use,
    so there is one queue, one cache and one set of metrics. More throughput takes more pods.

    Args:
        bundle: the bundle's folder.
        model_name: name in the endpoints' paths.
        http_port: for V1, V2 REST and /metrics.
        grpc_port: for V2 gRPC.
        limits: the bounds of the server.
        revision: label of the metrics; empty for the bundle's digest.
        precision: int8, fp32 or torch; empty for what the bundle chose.
        cascade: whether the linear model of a bundle that has one answers.
        log: what is logged, and where to; None for no prediction log.
        redis_url: of the Redis for jobs and the shared cache; empty for none.
        access: who may ask; None where anybody may, and no other site's pages.

    Raises:
        InputError: no bundle, no driver for the log's URI, no URL of a Redis, an unknown precision, a model name that
            cannot be in a path, or a port in use.
    """
    if precision and precision not in get_args(Precision):
        raise InputError(f"--precision {precision} is unknown: choose {', '.join(get_args(Precision))}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", model_name):
        raise InputError(f"--model-name '{model_name}' cannot stand in a path: use letters, digits, '.', '_' and '-'")
    if http_port == grpc_port:
        raise InputError(f"--http-port and --grpc-port are both {http_port}: choose two ports")
    _check_port("--http-port", http_port)
    _check_port("--grpc-port", grpc_port)
    # Texts are tokenised on the event loop or in our own threads; threads of the tokenizer would compete with them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _import_kserve()

    import prometheus_client

    from predictor.serving.http.access import Access
    from predictor.serving.kserve_model import TextClassifier
    from predictor.serving.redis.client import about

    # These would be a third of all series, and nothing reads them.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    model = TextClassifier(model_name, bundle, limits, revision, precision or None, cascade, log, redis_url)  # type: ignore[arg-type]
    model.warm_up()
    access = access or Access()
    server = _server(model, http_port, grpc_port, limits, access)
    classifier = model.classifier
    print(
        f"serving {model_name}: bundle {model.version}, {classifier.precision} ({classifier.about}), "
        f"{_about(classifier.cascade)}, {len(classifier.labels)} labels; "
        f"http :{http_port}, grpc :{grpc_port}{f'; log: {log.url}' if log else ''}"
        f"{f'; redis: {about(redis_url)}' if redis_url else ''}"
        f"{'; with tokens' if access.tokens else ''}{f'; page: http://localhost:{http_port}/ui' if access.ui else ''}",
        file=sys.stderr,
        flush=True,
    )
    # A lane's thread that returns from the engine waits until the event loop releases the interpreter's lock, by
    # default for 5 ms, while a batch takes 20.
    sys.setswitchinterval(0.0005)
    # Imported objects live to the end: searching all of them for garbage would take longer than many an answer.
    gc.collect()
    gc.freeze()
    server.start([model])


def _check_port(option: str, port: int) -> None:
    # gRPC binds with SO_REUSEPORT, so a second server would silently take half of the first one's calls.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            raise InputError(f"{option} {port} cannot be used ({error.strerror}): choose another port") from None


def _import_kserve() -> None:
    """Import kserve's server, which reads sys.argv while it is imported."""
    os.environ.setdefault("KSERVE_LOGLEVEL", "WARNING")
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # kserve 0.21 with fastapi 0.165
    argv, sys.argv = sys.argv, [sys.argv[0], "--enable_docs_url=true"]
    try:
        import kserve.model_server  # noqa: F401
    finally:
        sys.argv = argv


def _about(cascade: "Cascade | None") -> str:
    if cascade is None:
        return "no cascade"
    return f"a cascade whose linear model answers from a confidence of {cascade.spec.threshold:.3f} on"


def _server(model: "TextClassifier", http_port: int, grpc_port: int, limits: Limits, access: "Access") -> Any:
    import kserve.model_server
    from kserve import ModelServer
    from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady, ServerNotReady
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from starlette.exceptions import HTTPException

    from predictor.model.conformal import levels_of
    from predictor.serving.grpc_server import BoundedGrpcServer
    from predictor.serving.http.connection import Connection
    from predictor.serving.http.front_door import FrontDoor
    from predictor.serving.http.pages import docs_pages, ui_page
    from predictor.serving.http.routes import Routes
    from predictor.serving.memory import ByteBudget
    from predictor.serving.wire.openapi import document

    requests, answers = ByteBudget(BODIES * limits.body_bytes), ByteBudget(ANSWER_BYTES)
    spec = model.classifier.bundle.spec
    levels = levels_of(model.classifier.conformal)
    if access.ui and model.answering.multi_label:
        raise InputError("--ui shows one label a text, and this model may give several: leave --ui out, and use /docs")
    page = document(
        model.name, model.version, spec.labels, levels, spec.ordinal, spec.answer, bool(access.tokens),
        model.answering.multi_label,
    )  # fmt: skip
    pages = docs_pages() | (ui_page(model, bool(access.tokens)) if access.ui else {})

    class TruthfulDataPlane(DataPlane):  # type: ignore[misc]
        async def ready(self) -> bool:
            """Be ready when every model is; kserve always is."""
            models = self.model_registry.get_models()
            return bool(models) and all([await self.model_registry.is_model_ready(name) for name in models])

        async def model_ready(self, model_name: str) -> bool:
            return bool(await super().model_ready(_short(model_name)))

        async def model_metadata(self, model_name: str) -> Any:
            return await super().model_metadata(_short(model_name))

        async def get_model(self, name: str) -> Any:
            return await super().get_model(_short(name))

    class ClosedRepository(ModelRepositoryExtension):  # type: ignore[misc]
        """One process serves one bundle: it can be neither replaced nor unloaded over the network."""

        async def load(self, model_name: str) -> None:
            raise InvalidInput("loading models is off: deploy another bundle")

        async def unload(self, model_name: str) -> None:
            raise InvalidInput("unloading models is off: stop the server")

    class Server(ModelServer):  # type: ignore[misc]
        def setup_event_loop(self) -> None:
            """Put our routes in front of KServe's, and drain before uvicorn handles a signal.

            KServe calls this after it has made its servers and before it starts them. It has no other hook for either.
            """
            super().setup_event_loop()
            uvicorn = self._rest_server._server
            uvicorn.config.app = FrontDoor(
                kserve.model_server.app, Routes(model, pages), limits.body_bytes, requests, answers, access
            )
            uvicorn.config.http = Connection
            uvicorn.config.proxy_headers = False  # callers' addresses are not used
            # With a handler uvicorn formats a line for each request, even if its level discards it.
            lines = logging.getLogger("uvicorn.access")
            lines.handlers.clear()
            lines.propagate = False
            self._stop_listening, uvicorn.handle_exit = uvicorn.handle_exit, self._exit
            self._draining: asyncio.Future[None] | None = None

        async def _serve(self) -> None:
            model.begin_jobs()
            await super()._serve()

        def _exit(self, sig: int, frame: Any) -> None:
            asyncio.get_running_loop().call_soon_threadsafe(self._drain, sig)

        def _drain(self, sig: int) -> None:
            if self._draining:  # the second signal: stop at once
                self._stop_listening(sig, None)
                return

            async def drain() -> None:
                await self._grpc_server.set_not_serving()
                try:
                    await asyncio.wait_for(model.drain(), GRACE_SECONDS)
                except TimeoutError:
                    print(f"giving up on requests that took longer than {GRACE_SECONDS} s", file=sys.stderr, flush=True)
                self._stop_listening(sig, None)

            self._draining = asyncio.ensure_future(drain())

        def stop(self, sig: int) -> None:
            """End gRPC calls, and then the model; uvicorn has finished its requests by now."""

            async def shutdown() -> None:
                await self._grpc_server.stop(sig)
                for model_name in list(self.registered_models.get_models()):
                    self.registered_models.unload(model_name)

            self._shutdown = asyncio.get_running_loop().create_task(shutdown())

    app = kserve.model_server.app
    app.openapi = lambda: page
    app.add_exception_handler(HTTPException, _not_found)
    # In front of KServe's route, which only fails.
    app.add_api_route("/v2/models/{name}/versions/{version:path}", _no_version)
    kserve.model_server.GRPCServer = partial(
        BoundedGrpcServer, model=model, limits=limits, requests=requests, answers=answers, tokens=access.tokens
    )
    server = Server(http_port, grpc_port, workers=1, grace_period=GRACE_SECONDS, enable_latency_logging=False)
    server.dataplane = TruthfulDataPlane(model_registry=server.registered_models)
    server.model_repository_extension = ClosedRepository(model_registry=server.registered_models)
    # Callers' mistakes are in the answers and the metrics; the log needs no traceback of them.
    expected = (InvalidInput, ModelNotFound, ModelNotReady, ServerNotReady)
    logging.getLogger("kserve").addFilter(lambda record: not _caused_by(record, expected))
    for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of everything that is not HTTP
    return server


async def _no_version() -> None:
    """Answer that versions of a model have no addresses: one process serves one bundle."""
    from starlette.exceptions import HTTPException

    raise HTTPException(404)


async def _not_found(request: Any, error: Any) -> Any:
    """Answer a request for an unknown path or method, in the form of all other errors."""
    from fastapi.responses import JSONResponse

    what = f"{request.method} {request.url.path[:200]} is not served: /docs lists what is"
    return JSONResponse({"error": what}, error.status_code, error.headers)


def _short(name: str) -> str:
    """Return the start of a model's name, since KServe's refusals repeat names of any length."""
    return name[:200]


def _caused_by(record: logging.LogRecord, kinds: tuple[type[Exception], ...]) -> bool:
    return bool(record.exc_info) and isinstance(record.exc_info[1], kinds)  # type: ignore[index]
