"""The login to Kubeflow Pipelines, and kfp's client with time limits and clear errors."""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import kfp
import urllib3
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH
from kfp.client.token_credentials_base import TokenCredentialsBase
from kfp_server_api import ApiException, Configuration
from kfp_server_api.rest import RESTClientObject

from predictor.errors import InputError, Unavailable, one_line

_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# The namespace of a single-user installation, which ignores the namespace of a request.
_ONLY_NAMESPACE = "kubeflow"


class Unreachable(Unavailable):
    """The server did not respond; it may have processed the request all the same."""


class LoginRefused(InputError):
    """Kubeflow, or the gateway in front of it, does not accept the credentials."""


@dataclass(frozen=True)
class Login:
    """The address of Kubeflow Pipelines and the credentials for it.

    Args:
        host: the API's address; behind Kubeflow's dashboard it ends in /pipeline.
        namespace: the namespace of the runs; empty for that of the pod. A single-user server ignores it.
        token: a bearer token.
        token_file: a file with a bearer token, read before each request, since projected tokens rotate hourly.
        cookie: the Cookie header of a browser session.
        ca_cert: CA certificates to trust, PEM; None for the public ones.
    """

    host: str
    namespace: str = ""
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    cookie: str = field(default="", repr=False)
    ca_cert: Path | None = None

    def __post_init__(self) -> None:
        if not self.host.startswith(("http://", "https://")):
            raise InputError(
                f"--host '{self.host}' is not an http:// or https:// address: name where Kubeflow Pipelines is, such "
                "as https://kubeflow.example.com/pipeline"
            )
        if sum(map(bool, (self.token, self.token_file, self.cookie))) > 1:
            raise InputError("there is more than one login: give --token, --token-file or --cookie, not several")
        for name, secret in (("--token", self.token), ("--cookie", self.cookie)):
            if any(ord(letter) < 32 or ord(letter) > 126 for letter in secret):
                raise InputError(f"{name} has a line break or another character that no HTTP header has: copy it anew")
        if self.ca_cert and not self.ca_cert.is_file():
            raise InputError(f"--ca-cert {self.ca_cert} is not a file: name the PEM file of the server's authority")

    @property
    def renews(self) -> bool:
        """Whether the credentials are renewed, so that a login refused now may be accepted later."""
        return self.token_file is not None


class _TokenFile(TokenCredentialsBase):  # type: ignore[misc]
    """A bearer token in a file that the kubelet or a CI system replaces before the token expires."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def refresh_api_key_hook(self, config: Configuration) -> None:
        """Read the file; kfp calls this before each request."""
        try:
            token = self._file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--token-file {self._file} cannot be read ({error}): mount the token there") from error
        if not token or token.split() != [token]:
            raise InputError(f"--token-file {self._file} does not hold one token: mount the token there")
        config.api_key["authorization"] = token


class _Client(kfp.Client):  # type: ignore[misc]
    """kfp's client without ~/.config/kfp, so that what CI submits does not depend on an earlier login.

    With a namespace set, the constructor sends no request and writes nothing into the home folder.
    """

    def __init__(self, login: Login, namespace: str) -> None:
        self._named = namespace
        super().__init__(
            host=login.host,
            existing_token=login.token or None,
            cookies=login.cookie or None,
            credentials=_TokenFile(login.token_file) if login.token_file else None,
            ssl_ca_cert=str(login.ca_cert) if login.ca_cert else None,
        )
        self._existing_config.retries = False  # urllib3 would retry three times at once, and log each
        self._run_api.api_client.rest_client = _RestClient(self._existing_config)  # shared by all of kfp's API objects

    def _load_context_setting_or_default(self) -> None:
        self._context_setting = {"namespace": self._named}


class _RestClient(RESTClientObject):  # type: ignore[misc]
    """The HTTP layer of kfp's client: every request has a time limit, and every response must be JSON."""

    def __init__(self, config: Configuration) -> None:
        super().__init__(config)
        self._host = config.host

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Send a request, without retries.

        Raises:
            ApiException: the server responds with an error status.
            Unreachable: the server does not respond.
            InputError: the address is invalid, or the server's certificate is not trusted.
            LoginRefused: the response is not JSON, such as a login page.
        """
        options["_request_timeout"] = (_CONNECT_SECONDS, _READ_SECONDS)  # kfp sets none and would wait without limit
        try:
            response = super().request(method, url, **options)
        except ApiException as error:
            if error.status == 0:
                raise self._mistrusted(error.reason) from None
            error.body = (
                bytes(error.body or b"").decode(errors="replace").encode()
            )  # kfp decodes it and fails on invalid UTF-8
            raise
        except urllib3.exceptions.SSLError as error:
            raise self._mistrusted(error) from None
        except urllib3.exceptions.LocationValueError as error:
            raise InputError(f"--host {self._host} is not an address ({error}): correct it") from None
        except urllib3.exceptions.HTTPError as error:
            reason = one_line(error)
            raise Unreachable(f"{self._host} does not answer ({reason}): check --host, or try again later") from None
        try:
            json.loads(response.data or b"{}")
        except ValueError:
            raise LoginRefused(
                f"{self._host} answers with a page, not with JSON, as a login page or a dashboard does: give a login "
                "that is valid (--token, --token-file or --cookie), and the API's address, often ending in /pipeline"
            ) from None
        return response

    def _mistrusted(self, reason: object) -> InputError:
        said = one_line(reason)
        return InputError(
            f"{self._host} cannot be trusted ({said}): name its certificate's authority with --ca-cert, or write "
            "http:// if that is all it speaks"
        )


@dataclass(frozen=True)
class Kubeflow:
    """A connection to Kubeflow Pipelines, and the namespace of its runs."""

    client: kfp.Client
    login: Login
    namespace: str

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """Translate the API's errors inside into ours; `doing` completes the sentence "the server fails to ...".

        Raises:
            InputError: the server refuses, and a retry would not help.
            LoginRefused: the server does not accept the credentials; a renewed token may help.
            Unavailable: the server fails or is overloaded.
        """
        try:
            yield
        except ApiException as error:
            raise self._sentence(error, doing) from None

    def _sentence(self, error: ApiException, doing: str) -> Exception:
        host, message = self.login.host, message_of(error)
        if transient(error):
            return Unavailable(f"{host} fails to {doing} ({error.status}, {message}): try again later")
        if error.status == 401:
            way = f"--token-file {self.login.token_file}" if self.login.renews else "--token, --token-file or --cookie"
            return LoginRefused(f"{host} does not accept the login ({message}): give one that is valid with {way}")
        if error.status == 403:
            return InputError(
                f"{host} forbids to {doing} in namespace {self.namespace} ({message}): bind the account to the "
                "ClusterRole kubeflow-pipelines-edit there, or name another --namespace"
            )
        if 300 <= error.status < 400:
            return LoginRefused(
                f"{host} sends us on to another address, as a gateway does before its login page: give a login that "
                "is valid (--token, --token-file or --cookie), and the address it sends to if it only moved"
            )
        if error.status == 404 and not _from_the_api(error):
            return InputError(f"{host} has no Kubeflow Pipelines API: name its address, often ending in /pipeline")
        return InputError(f"{host} refuses to {doing} ({error.status}, {message}): fix what it names")


def connect(login: Login) -> Kubeflow:
    """Connect to Kubeflow Pipelines and check that it is healthy and accepts the login.

    Raises:
        InputError: there is no such API, it refuses, or it is a multi-user server and no namespace is given.
        Unavailable: the server does not respond or fails.
    """
    token_file = Path(os.environ.get(KF_PIPELINES_SA_TOKEN_ENV) or KF_PIPELINES_SA_TOKEN_PATH)
    if not (login.token or login.token_file or login.cookie) and token_file.is_file():
        login = replace(login, token_file=token_file)
    namespace = login.namespace or (_POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.is_file() else "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "only works with 2.0 and later"
        client = _Client(login, namespace or _ONLY_NAMESPACE)
    kubeflow = Kubeflow(client, login, namespace or _ONLY_NAMESPACE)
    with kubeflow.explained("say whether it is well"):
        health = client.healthzs.healthz_service_get_healthz()
    if health.multi_user is None:
        raise InputError(f"{login.host} has no Kubeflow Pipelines API: name its address, often ending in /pipeline")
    if health.multi_user and not namespace:
        raise InputError(f"{login.host} has a namespace for each user, and none is named: name one with --namespace")
    return kubeflow


def transient(error: ApiException) -> bool:
    """Return whether the same request may succeed later."""
    return error.status in (408, 429) or error.status >= 500


def message_of(error: ApiException) -> str:
    """Return the server's message on one line: from the body of an API or upload error, or else the status line."""
    try:
        said = json.loads(error.body)
        text = said.get("message") or said["error_message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        text = error.reason
    return one_line(text, most=300)


def equals(field_name: str, value: str) -> str:
    """Return an API filter for objects whose field has this value."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": field_name, "stringValue": value}]})


def _from_the_api(error: ApiException) -> bool:
    """Return whether a 404 comes from the API, for a missing object, and not from a wrong path."""
    try:
        return "code" in json.loads(error.body)
    except (ValueError, TypeError):
        return False
