"""What a gRPC caller is told where there is no answer: a status, a sentence, and when to come again."""

from typing import Any

from grpc import StatusCode
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor

from predictor.errors import EmptyTexts, NotNow, Refusal

_STATUS = {
    400: StatusCode.INVALID_ARGUMENT,
    413: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}


class Refusals(ExceptionToStatusInterceptor):  # type: ignore[misc]
    """Takes the place of KServe's interceptor, which knows none of our refusals, and goes on with the rest."""

    async def handle_exception(self, ex: Exception, request_or_iterator: Any, context: Any, method_name: str) -> None:
        """End a call.

        Trailing metadata tell a program what it need not read in the sentence: `retry-after`, in seconds, is that of
        HTTP; `empty-texts` are the numbers of the texts that are empty, with commas between them.
        """
        if isinstance(ex, Refusal):
            more: tuple[tuple[str, str], ...] = ()
            if isinstance(ex, NotNow):
                more = (("retry-after", str(ex.retry_after)),)
            elif isinstance(ex, EmptyTexts):
                more = (("empty-texts", ",".join(map(str, ex.places))),)
            await context.abort(_STATUS.get(ex.status, StatusCode.INTERNAL), str(ex), more)
        await super().handle_exception(ex, request_or_iterator, context, method_name)
