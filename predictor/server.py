"""The KServe model server around one text classifier, with the edges of kserve 0.21 covered."""

import asyncio
import logging
import os
import socket
import sys
import warnings
from pathlib import Path
from typing import Any, get_args

from predictor.bundle import Precision
from predictor.errors import InputError

GRACE_SECONDS = 30


def serve(
    bundle: Path, model_name: str, http_port: int, grpc_port: int, revision: str = "", precision: str = ""
) -> None:
    """Serve a bundle until SIGTERM or SIGINT, then finish what was accepted and return.

    Nothing listens before the model has answered once.

    Args:
        bundle: the bundle's folder.
        model_name: name in the endpoints' paths.
        http_port: for V1, V2 REST and /metrics.
        grpc_port: for V2 gRPC.
        revision: label on the metrics; empty for the bundle's digest.
        precision: int8, fp32 or torch; empty for what the bundle chose.

    Raises:
        InputError: no bundle, an unknown precision, or a port that is taken.
    """
    if precision and precision not in get_args(Precision):
        raise InputError(f"--precision {precision} is unknown: choose {', '.join(get_args(Precision))}")
    if http_port == grpc_port:
        raise InputError(f"--http-port and --grpc-port are both {http_port}: choose two ports")
    _check_port("--http-port", http_port)
    _check_port("--grpc-port", grpc_port)
    _import_kserve()

    from predictor.model import TextClassifier

    model = TextClassifier(model_name, bundle, revision, precision or None)  # type: ignore[arg-type]
    model.load()
    server = _server(http_port, grpc_port)
    spec = model.classifier.bundle.spec
    print(
        f"serving {model_name}: bundle {model.version}, {precision or spec.precision}, {len(spec.labels)} labels; "
        f"http :{http_port}, grpc :{grpc_port}",
        file=sys.stderr,
        flush=True,
    )
    server.start([model])


def _check_port(option: str, port: int) -> None:
    # gRPC binds with SO_REUSEPORT, so a second server would quietly take half of the first one's calls.
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
    argv, sys.argv = sys.argv, sys.argv[:1]
    try:
        import kserve.model_server  # noqa: F401
    finally:
        sys.argv = argv


def _server(http_port: int, grpc_port: int) -> Any:
    from fastapi import Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from kserve import ModelServer
    from kserve.errors import InvalidInput, ModelNotFound
    from kserve.model_server import app
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension

    from predictor.model import InternalError

    class TruthfulDataPlane(DataPlane):  # type: ignore[misc]
        async def ready(self) -> bool:
            """Say ready when every model is; kserve always says so."""
            models = self.model_registry.get_models()
            return bool(models) and all([await self.model_registry.is_model_ready(name) for name in models])

        def decode(self, body: Any, headers: dict[str, str], *args: Any, **options: Any) -> Any:
            """Decode JSON whatever charset the content type names, and call a malformed body bad input, not a fault."""
            if headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
                headers = {**headers, "content-type": "application/json"}
            try:
                return super().decode(body, headers, *args, **options)
            except InvalidInput:
                raise
            except Exception as error:  # KeyError, TypeError, struct.error... by what is missing
                raise InvalidInput(f"the request cannot be read ({type(error).__name__}: {error})") from error

    class ClosedRepository(ModelRepositoryExtension):  # type: ignore[misc]
        """One bundle a process: nobody loads another over the network, or takes this one away."""

        async def load(self, model_name: str) -> None:
            raise InvalidInput("loading models is off: deploy another bundle")

        async def unload(self, model_name: str) -> None:
            raise InvalidInput("unloading models is off: stop the server")

    class Server(ModelServer):  # type: ignore[misc]
        def stop(self, sig: int) -> None:
            """End gRPC calls too, and only then the model; uvicorn has finished its requests by now."""

            async def shutdown() -> None:
                await self._grpc_server.stop(sig)
                for model_name in list(self.registered_models.get_models()):
                    self.registered_models.unload(model_name)

            self._shutdown = asyncio.get_running_loop().create_task(shutdown())

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
        return JSONResponse({"error": f"the request is no V2 inference request at {where}: {first['msg']}"}, 400)

    async def broken(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 500)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(InternalError, broken)
    server = Server(http_port, grpc_port, grace_period=GRACE_SECONDS, enable_latency_logging=False)
    server.dataplane = TruthfulDataPlane(model_registry=server.registered_models)
    server.model_repository_extension = ClosedRepository(model_registry=server.registered_models)
    # A caller's mistake is in the answer and the counters; a traceback of it in the log helps nobody.
    expected = (InvalidInput, ModelNotFound, InternalError)
    logging.getLogger("kserve").addFilter(lambda record: not _caused_by(record, expected))
    for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return server


def _caused_by(record: logging.LogRecord, kinds: tuple[type[Exception], ...]) -> bool:
    return bool(record.exc_info) and isinstance(record.exc_info[1], kinds)  # type: ignore[index]
