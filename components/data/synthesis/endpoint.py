"""One question to a language model, as OpenAI's chat completions define it and many servers speak it."""

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from predictor.client.retry import Busy, retried, seconds_to_wait
from predictor.errors import InputError, Unavailable, one_line

_MOST_BYTES = 8_000_000
# Servers of OpenAI's newer models know only the second name, older servers only the first.
_LIMITS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Answer:
    """What a model said; empty if the answer holds nothing that was said."""

    content: str
    tokens: int
    """Of question and answer, as the server counts them; where it does not, a guess that is rather too high."""
    cut: bool = False
    """Whether the answer ended at the limit of tokens."""


@dataclass
class Endpoint:
    """Where a model is asked.

    Args:
        url: address up to and with the version, such as http://localhost:11434/v1.
        model: name of the model there.
        key: sent as a bearer token, if not empty; it is in no message and no file.
        timeout: seconds for an answer.

    Raises:
        InputError: the address is none, or the key cannot be sent.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    asked: int = 0
    """Questions sent, with those that had no answer."""
    _limit: str = field(default=_LIMITS[0], init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # of a host in broken brackets, or of a port beyond all
            good = False
        if not good or parts.username or parts.query:
            raise InputError("--url is no address of a model: give it as in https://api.example.org/v1, without a key")
        if not (self.key.isascii() and self.key.isprintable()):
            raise InputError("the model's key has characters that no header can hold: give the key alone")
        self.url = self.url.rstrip("/").removesuffix("/chat/completions")

    @property
    def source(self) -> str:
        """What rows say of where they come from."""
        return f"synthetic:{self.model}@{urlsplit(self.url).netloc}"

    def ask(self, client: httpx.Client, messages: list[dict[str, str]], most_tokens: int) -> Answer:
        """Return the answer to a question; a server that is busy, broken or silent is asked again after pauses.

        Raises:
            InputError: the server refuses the question.
            Unavailable: it has no answer after all pauses.
        """
        body = {"model": self.model, "messages": messages}
        said = retried(lambda: self._said(client, body, most_tokens), threading.Event())
        return _answer(said, len(json.dumps(messages)))

    def _said(self, client: httpx.Client, body: dict[str, Any], most_tokens: int) -> bytes:
        status, headers, said = self._post(client, {**body, self._limit: most_tokens})
        if status == 400 and self._limit == _LIMITS[0] and _LIMITS[1].encode() in said:
            self._limit = _LIMITS[1]
            status, headers, said = self._post(client, {**body, self._limit: most_tokens})
        if status in (408, 429) or status >= 500:
            raise Busy(
                f"{self.url} answers {status} ({self._reason(said)})", seconds_to_wait(headers.get("retry-after", ""))
            )
        if status != 200:
            raise InputError(f"{self.url} answers {status} ({self._reason(said)}): check --url, --model and the key")
        return said

    def _post(self, client: httpx.Client, body: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        """Send a question; the whole answer has to arrive in time, however slowly it drips."""
        self.asked += 1
        end = time.monotonic() + self.timeout
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        said = bytearray()
        try:
            with client.stream(
                "POST", f"{self.url}/chat/completions", json=body, headers=headers, timeout=self.timeout
            ) as answer:
                for part in answer.iter_bytes():
                    said += part
                    if len(said) > _MOST_BYTES:
                        raise Unavailable(f"{self.url} answers more than {_MOST_BYTES:,} bytes: look at the server")
                    if time.monotonic() > end:
                        raise httpx.ReadTimeout("the answer takes too long")
                return answer.status_code, answer.headers, bytes(said)
        except httpx.TimeoutException as error:
            raise Busy(f"{self.url} gave no answer in {self.timeout:g} s") from error
        except httpx.HTTPError as error:
            raise Busy(f"{self.url} cannot be reached ({self._hidden(str(error))})") from error

    def _reason(self, said: bytes) -> str:
        """Return the server's own sentence, without the key that some servers repeat."""
        try:
            error = json.loads(said)["error"]
            text = error["message"] if isinstance(error, dict) else error
        except (ValueError, KeyError, TypeError, RecursionError):
            text = said.decode("utf-8", "replace")
        return one_line(self._hidden(str(text)))

    def _hidden(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text


def read_key(file: Path) -> str:
    """Return the key in a file.

    Raises:
        InputError: the file cannot be read, or it holds no key of one line.
    """
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--key-file {file} cannot be read: give a file with the key alone") from error
    if not key.isascii() or not key.isprintable() or not key:
        raise InputError(f"--key-file {file} holds no key: give a file with the key alone")
    return key


def _answer(said: bytes, asked: int) -> Answer:
    """Read a body, of which nothing is believed to be there."""
    try:
        body = json.loads(said)
    except (ValueError, RecursionError):
        body = None
    first = _at(_at(body, "choices"), 0)
    content = _at(_at(first, "message"), "content")
    tokens = _at(_at(body, "usage"), "total_tokens")
    guess = (asked + len(said)) // 2
    counted = isinstance(tokens, int) and not isinstance(tokens, bool) and tokens > 0
    return Answer(
        content if isinstance(content, str) else "",
        tokens if counted else guess,
        _at(first, "finish_reason") == "length",
    )


def _at(value: Any, place: str | int) -> Any:
    try:
        return value[place]
    except (KeyError, IndexError, TypeError):
        return None
