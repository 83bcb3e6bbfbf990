"""How a request ends: every end is counted, and one that is the server's fault is logged and shown as such."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

import orjson

from predictor.errors import InternalError, Refusal

log = logging.getLogger("pigeonhole")

# The status of a request whose caller hung up.
_DISCONNECTED = 499


@contextmanager
def counting(protocol: str, count: Callable[[int, float], None]) -> Iterator[float]:
    """Count a request that is answered within the block by its status and seconds.

    Yields:
        when it started, in seconds of `perf_counter`.

    Raises:
        Refusal: there is no answer. Nothing else is raised, so callers see no internals.
    """
    started = perf_counter()
    status = 200
    try:
        yield started
    except InternalError as error:
        status = error.status
        _log_failure(protocol, error.__cause__ or error)
        raise
    except Refusal as refusal:
        status = refusal.status
        raise
    except asyncio.CancelledError:
        status = _DISCONNECTED
        raise
    except Exception as error:
        status = InternalError.status
        _log_failure(protocol, error)
        raise InternalError("internal error: the server's log says what broke") from error
    finally:
        count(status, perf_counter() - started)


def _log_failure(protocol: str, error: BaseException) -> None:
    """Log a request that failed by no fault of its caller, in one line."""
    trace = "".join(traceback.format_exception(error))
    log.error(orjson.dumps({"event": "request failed", "protocol": protocol, "error": trace}).decode())
