"""What a gRPC caller gets where there is no answer: a status, a sentence, and metadata for programs."""

from typing import Any

from grpc import StatusCode
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor

from predictor.errors import MOST_PLACES, EmptyTexts, NotNow, Refusal

# By the HTTP status of a refusal.
_STATUS = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.DEADLINE_EXCEEDED,
    413: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}


class StatusInterceptor(ExceptionToStatusInterceptor):  # type: ignore[misc]
    """KServe's interceptor, but a call that was refused ends with the status of its refusal."""

    async def handle_exception(self, ex: Exception, request_or_iterator: Any, context: Any, method_name: str) -> None:
        """End a call.

        Trailing metadata carry for programs what the sentence says: `retry-after` has seconds, as in HTTP;
        `empty-texts` has the numbers of the empty texts, with commas between them.
        """
        if isinstance(ex, Refusal):
            more: tuple[tuple[str, str], ...] = ()
            if isinstance(ex, NotNow):
                more = (("retry-after", str(ex.retry_after)),)
            elif isinstance(ex, EmptyTexts):
                more = (("empty-texts", ",".join(map(str, ex.places[:MOST_PLACES]))),)
            await context.abort(_STATUS.get(ex.status, StatusCode.INTERNAL), str(ex), more)
        await super().handle_exception(ex, request_or_iterator, context, method_name)
