"""A custom object that a step creates, follows and deletes; lost answers, restarts and cancellation are handled."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from components.platform.kubernetes import REQUEST_SECONDS, Cluster, message_of
from components.platform.progress import say
from components.platform.termination import termination_raises
from predictor.errors import InputError

LABELS = {"app.kubernetes.io/part-of": "pigeonhole"}
# An API server does not answer for a few minutes while it is upgraded.
_SILENCE_SECONDS = 600.0
_DELETE_TRIES = 3


@dataclass(frozen=True)
class Kind:
    """A kind of custom object, by the parts of its path at the API server."""

    name: str
    group: str
    version: str
    plural: str


class Taken(InputError):
    """There is an object of that name already, which is not ours."""


class Gone(InputError):
    """The object was deleted while it was followed."""


@dataclass
class Posted:
    """An object on a cluster that this process created and follows."""

    cluster: Cluster
    kind: Kind
    name: str
    pause: float
    """Seconds between two reads."""
    _answered_at: float = field(default_factory=time.monotonic)
    _last_trouble: str = ""

    def look(self) -> Mapping[str, Any] | None:
        """Return the object, or None while the API server does not answer.

        Raises:
            Gone: the object was deleted.
            ApiException: the server refuses the request.
            InputError: the server has not answered for ten minutes.
        """
        try:
            found: Mapping[str, Any] = self.cluster.api.get_namespaced_custom_object(
                *self._place(), self.name, _request_timeout=REQUEST_SECONDS
            )
        except (ApiException, HTTPError) as error:
            if _status(error) == 404:
                raise Gone(f"{self} was deleted while it ran: run it again") from error
            self._wait_out(error)
            return None
        self._answered_at = time.monotonic()
        return found

    def create(self, body: Mapping[str, Any]) -> None:
        """Create it, or accept the one that an earlier try created, whose answer may have got lost."""
        while True:
            try:
                self.cluster.api.create_namespaced_custom_object(
                    *self._place(), dict(body), _request_timeout=REQUEST_SECONDS
                )
                return
            except (ApiException, HTTPError) as error:
                if _status(error) != 409:
                    self._wait_out(error)
                elif self._is_there():
                    say(f"{self} is there already, from a try before this one: following it")
                    return
            time.sleep(self.pause)

    def delete(self) -> None:
        """Delete it if it exists; if that fails, print how to do it by hand."""
        for _ in range(_DELETE_TRIES):
            try:
                self.cluster.api.delete_namespaced_custom_object(
                    *self._place(), self.name, propagation_policy="Background", _request_timeout=REQUEST_SECONDS
                )
                return
            except (ApiException, HTTPError) as error:
                if _status(error) in (403, 404):
                    return
                reason = reason_of(error)
            time.sleep(min(self.pause, 1.0))
        say(
            f"{self} could not be deleted ({reason}): "
            f"kubectl -n {self.cluster.namespace} delete {self.kind.plural}.{self.kind.group} {self.name}"
        )

    def _is_there(self) -> bool:
        """Whether it exists and is not being deleted."""
        try:
            found = self.look()
        except Gone:
            return False
        if found is None:
            return False
        if any((found["metadata"].get("labels") or {}).get(key) != value for key, value in LABELS.items()):
            raise Taken(f"{self} is there already and is somebody else's: rename or delete it")
        return "deletionTimestamp" not in found["metadata"]

    def _wait_out(self, error: ApiException | HTTPError) -> None:
        status = _status(error)
        if status and status not in (401, 408, 429) and status < 500:
            raise error
        if time.monotonic() - self._answered_at > _SILENCE_SECONDS:
            raise InputError(
                f"{self} cannot be followed ({reason_of(error)}): look at the API server and run again"
            ) from error
        trouble = f"the cluster answers {reason_of(error)}" if status else reason_of(error)
        if trouble != self._last_trouble:
            say(f"{trouble}; asking again")
            self._last_trouble = trouble

    def _place(self) -> tuple[str, str, str, str]:
        return self.kind.group, self.kind.version, self.cluster.namespace, self.kind.plural

    def __str__(self) -> str:
        return f"{self.kind.name} {self.cluster.namespace}/{self.name}"


@contextmanager
def posted(cluster: Cluster, kind: Kind, body: Mapping[str, Any], pause: float) -> Iterator[Posted]:
    """Create an object, and delete it at the end, also after an error or SIGTERM.

    Args:
        cluster: where to create it.
        kind: the object's kind.
        body: the object. Its name identifies it: an object of the same name is that of an earlier try.
        pause: seconds between two reads.

    Raises:
        ApiException: the cluster refuses the object.
        InputError: the name is taken, or the API server has not answered for ten minutes.
    """
    metadata = {**body["metadata"], "labels": {**body["metadata"].get("labels", {}), **LABELS}}
    ours = Posted(cluster, kind, metadata["name"], pause)
    with termination_raises():
        try:
            ours.create({**body, "metadata": metadata})
            yield ours
        except Taken:
            raise
        except BaseException:
            ours.delete()  # even if the request to create it got no answer
            raise
        ours.delete()


def reason_of(error: ApiException | HTTPError) -> str:
    """Return in words why a request failed: the API server's answer, or that there was none."""
    return f"{error.status} {message_of(error)}" if isinstance(error, ApiException) else _silence(error)


def _silence(error: HTTPError) -> str:
    return f"the cluster does not answer ({type(error).__name__})"


def _status(error: ApiException | HTTPError) -> int:
    return int(error.status or 0) if isinstance(error, ApiException) else 0
