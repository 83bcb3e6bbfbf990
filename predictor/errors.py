"""One tree of errors: each is a sentence for the person or program that can do something about it.

The command line turns them into exit codes (`pipelines.cli.app`), the server turns a `Refusal` into its HTTP status,
and a pipeline step leaves the sentence of an `InputError` as its termination message. Any other exception is a bug,
and keeps its traceback.
"""

from collections.abc import Sequence

MOST_PLACES = 500
"""Empty texts that an answer names: no more than go into a header."""


class PigeonholeError(Exception):
    """What this program raises on purpose; the text is one sentence that says what is wrong, where, and what to do."""


class InputError(PigeonholeError, ValueError):
    """Bad input: the same call fails again until somebody changes something."""


class Unavailable(PigeonholeError, RuntimeError):
    """A server, cluster or service is away, overloaded or broken: the same call may succeed later."""


class StepFailed(PigeonholeError, RuntimeError):
    """A pipeline step ended in a way that nobody foresaw."""

    def __init__(self, log: str) -> None:
        super().__init__("a step failed unexpectedly; the end of its log is above")
        self.log = log
        """The end of what the step printed, to be shown before the sentence."""


class Refusal(PigeonholeError):
    """A request that gets no answer: one sentence for the caller, and the HTTP status that says whose turn it is."""

    status = 500


class BadRequest(Refusal):
    """The request is of another shape than the protocol's."""

    status = 400


EMPTY_TEXT = "the text is empty after cleaning: send one with words in it"
"""What is said of an empty text where the others are answered."""


class EmptyTexts(BadRequest):
    """Texts of which cleaning leaves nothing to classify.

    Args:
        places: which of the request's texts, from 0 on, in order.
    """

    def __init__(self, places: Sequence[int]) -> None:
        what = f"text {places[0]} is" if len(places) == 1 else f"text {places[0]} and {len(places) - 1} more are"
        super().__init__(f"{what} empty after cleaning: send only texts with words in them")
        self.places = list(places)
        """For programs, which need not read the sentence."""


class Unauthorised(Refusal):
    """The caller does not say who it is, or says it wrongly."""

    status = 401


class NotServed(Refusal):
    """There is no such model, or no such thing is done with it."""

    status = 404


class WrongMethod(Refusal):
    """There is such a thing, but it is asked otherwise."""

    status = 405


class Late(Refusal):
    """The request did not arrive in time."""

    status = 408


class NotDone(Refusal):
    """What is asked for is not there yet, or will never be."""

    status = 409


class TooLarge(Refusal):
    """The request cannot be taken, however long the caller waits."""

    status = 413


class Compressed(Refusal):
    """The body is in an encoding that is not undone here: a small one may become any number of bytes."""

    status = 415


class InternalError(Refusal):
    """Something broke here; what, is in the log and nobody else's business."""

    status = 500


class NotInstalled(Refusal):
    """The server lacks a package that the answer needs."""

    status = 501


class Unsupported(Refusal):
    """The server was started without what the answer needs."""

    status = 503


class TooLate(Refusal):
    """The deadline passed first."""

    status = 504


class NotNow(Refusal):
    """The same request will be taken later, or by another pod."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Whole seconds, at least 1."""


class Overloaded(NotNow):
    """The queue is full."""

    status = 429


class Busy(NotNow):
    """What does one thing at a time is doing another."""

    status = 503


class Draining(NotNow):
    """The server is stopping."""

    status = 503


def one_line(text: object, most: int = 200) -> str:
    """Return the text of an error, or what else is quoted in a sentence, on one line and cut to `most` characters."""
    return " ".join(str(text).split())[:most]
