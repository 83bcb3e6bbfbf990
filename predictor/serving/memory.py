"""How much memory requests and answers may take."""

from predictor.errors import Overloaded


class ByteBudget:
    """Bytes of requests, or of answers, that the server holds for the callers of all protocols, up to a limit.

    Args:
        limit: the most bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.bytes = 0

    def acquire(self, size: int) -> None:
        """Count more bytes. They are counted even if they are refused, so each call needs a `release`.

        Raises:
            Overloaded: they are too many.
        """
        self.bytes += size
        if self.bytes > self._limit:
            raise Overloaded("the server holds all the requests it can: send the request again in 1 s", 1)

    def release(self, size: int) -> None:
        """Count fewer bytes."""
        self.bytes -= size
