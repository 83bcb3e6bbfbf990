"""Who we are to Kubeflow Pipelines, and kfp's client without its surprises."""

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
# What an installation for one user calls its namespace; such a server heeds no other.
_ONLY_NAMESPACE = "kubeflow"


class Unreachable(Unavailable):
    """No answer came; what was asked for may have been done."""


class LoginRefused(InputError):
    """Kubeflow, or the gateway in front of it, does not take us for who we say we are."""


@dataclass(frozen=True)
class Login:
    """Where Kubeflow Pipelines is, and who we are to it.

    Args:
        host: its address; behind Kubeflow's dashboard that ends in /pipeline.
        namespace: whose runs they are; empty for the pod's own. A server for one user heeds none.
        token: a bearer token.
        token_file: a file with one, read anew for each request, since a projected token changes hourly.
        cookie: the Cookie header of a session in the browser.
        ca_cert: certificates to trust, PEM; None for the public ones.
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
        """Whether a login that is refused now may be accepted in a minute."""
        return self.token_file is not None


class _TokenFile(TokenCredentialsBase):  # type: ignore[misc]
    """A bearer token in a file that the kubelet, or CI, writes anew before it expires."""

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
    """kfp's client, taking nothing from ~/.config/kfp: what CI submits must not hang on who logged in there.

    With a namespace the constructor asks the server for nothing, and writes nothing into the home folder.
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
        self._existing_config.retries = False  # urllib3 would try thrice at once, and log each
        self._run_api.api_client.rest_client = _Line(self._existing_config)  # the services share it

    def _load_context_setting_or_default(self) -> None:
        self._context_setting = {"namespace": self._named}


class _Line(RESTClientObject):  # type: ignore[misc]
    """The connection under kfp's client: every request has a time limit, every answer is JSON."""

    def __init__(self, config: Configuration) -> None:
        super().__init__(config)
        self._host = config.host

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Ask once.

        Raises:
            ApiException: Kubeflow refuses.
            Unreachable: there is no answer.
            InputError: the address is none, or who answers there cannot be trusted.
            LoginRefused: there is a page where JSON should be.
        """
        options["_request_timeout"] = (_CONNECT_SECONDS, _READ_SECONDS)  # kfp sets none, and would wait for ever
        try:
            response = super().request(method, url, **options)
        except ApiException as error:
            if error.status == 0:
                raise self._mistrusted(error.reason) from None
            error.body = bytes(error.body or b"").decode(errors="replace").encode()  # kfp decodes it, strictly
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
    """Kubeflow Pipelines, once it has answered, and the namespace we work in."""

    client: kfp.Client
    login: Login
    namespace: str

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """Turn its refusals into sentences; `doing` completes "to ...".

        Raises:
            InputError: a refusal that stays one until somebody changes something.
            LoginRefused: of these, the one that a renewed token may lift.
            Unavailable: it is out of order, or too busy.
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
    """Ask Kubeflow Pipelines whether it is there and takes our login.

    Raises:
        InputError: it is not, or does not, or has many namespaces of which none was named.
        Unavailable: it is away or broken.
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
    """Say whether the same request may be granted later, though nobody changes anything."""
    return error.status in (408, 429) or error.status >= 500


def message_of(error: ApiException) -> str:
    """Return the server's reason on one line: of a service, of the upload, or the status line's."""
    try:
        said = json.loads(error.body)
        text = said.get("message") or said["error_message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        text = error.reason
    return one_line(text, most=300)


def only(field_name: str, value: str) -> str:
    """Return the filter, as the API wants it, of objects that have this value."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": field_name, "stringValue": value}]})


def _from_the_api(error: ApiException) -> bool:
    """Say whether a 404 is about an object, not about the path."""
    try:
        return "code" in json.loads(error.body)
    except (ValueError, TypeError):
        return False
