"""Golden texts: the same questions to both versions, before anybody else's go to the canary."""

import base64
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException

from components.platform.kubernetes import REQUEST_SECONDS, Cluster
from components.rollout.inference_service import Service, explained
from components.rollout.state import Rollout
from components.rollout.workloads import deployment_name
from predictor.client import Answers, Server, ask
from predictor.errors import InputError, Unavailable
from predictor.model.text import clean

SECRET, KEY = "pigeonhole-tokens", "tokens"
"""Where `kustomize/components/tokens` has the tokens of the predictors."""
_TAGS = "serving.kserve.io/enable-tag-routing"


@dataclass(frozen=True)
class Golden:
    """Texts, and how far the versions may disagree on them."""

    texts: Sequence[str]
    most: float = 0.1
    """Share of texts that may get another label."""
    stable_url: str = ""
    canary_url: str = ""
    """Where the versions answer; empty for their addresses inside the cluster."""
    token_file: Path | None = None
    """A file with the bearer token that the predictors want."""


@contextmanager
def predictors_token(cluster: Cluster) -> Iterator[Path | None]:
    """Give the tokens of the predictors as a file, for the time of the block.

    None where there are none, or where this account may not read them, as those of clusters without tokens may not: the
    predictors say so themselves if they want one.

    Raises:
        InputError: the Secret does not have them.
        Unavailable: the API server does not answer.
    """
    content = _tokens(cluster)
    if content is None:
        yield None
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield Path(file.name)


def _tokens(cluster: Cluster) -> bytes | None:
    core = CoreV1Api(cluster.api.api_client)
    with explained(cluster, f"secret {SECRET}", "secrets"):
        try:
            found = core.read_namespaced_secret(SECRET, cluster.namespace, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status in (401, 403, 404):
                return None
            raise
    if KEY not in (found.data or {}):
        raise InputError(
            f"secret {SECRET} in namespace {cluster.namespace} has no key {KEY}: make it as docs/rest.md shows"
        )
    return base64.b64decode(found.data[KEY])


def check_asked(golden: Golden, service: Service) -> None:
    """Refuse golden texts that one version could not be asked, before anything is done.

    Raises:
        InputError: cleaning leaves nothing of one, or in Knative mode KServe gives the canary no address of its own.
    """
    if empty := [number for number, text in enumerate(golden.texts, start=1) if not clean(text)]:
        raise InputError(f"golden text {empty[0]} is empty once it is cleaned: remove it, or give a text with words")
    if service.standard or golden.canary_url or service.annotation(_TAGS) == "true":
        return
    raise InputError(
        f"the canary of inferenceservice {service.name} has no address of its own for the golden texts: annotate the "
        f'service with {_TAGS}: "true" before the rollout starts, or give --canary-url'
    )


def objection(golden: Golden, namespace: str, service: Service, rollout: Rollout) -> str:
    """Ask both versions and return what speaks against the canary; empty if nothing does."""
    stable, canary = _addresses(golden, namespace, service, rollout)
    if not (stable and canary):
        return "KServe does not tell the versions' own addresses for the golden texts: give the addresses"
    try:
        before, after = (_labels(url, service.name, golden) for url in (stable, canary))
    except (InputError, Unavailable) as error:
        return f"the golden texts got no answer ({error})"[:300]
    share = sum(a != b for a, b in zip(before, after, strict=True)) / len(golden.texts)
    return f"{share:.1%} of {len(golden.texts)} golden texts get another label" if share > golden.most else ""


def _addresses(golden: Golden, namespace: str, service: Service, rollout: Rollout) -> tuple[str, str]:
    if service.standard:
        told = ((service.document.get("status") or {}).get("address") or {}).get("url")
        found = urlsplit(told or f"http://any.{namespace}.svc.cluster.local")
        # Services without an address of their own, which KServe may be set to make, have the pods' port and no other.
        port = f":{found.port}" if found.port else ""
        rest = (found.hostname or "").partition(".")[2]
        names = (deployment_name(service.name, own) for own in (rollout.stable_predictor, rollout.predictor_name))
        stable, canary = (f"http://{name}.{rest}{port}" for name in names)
    else:
        tagged = {target.get("tag"): str(target.get("url", "")) for target in service.revisions.get("traffic") or []}
        stable, canary = tagged.get("prev", ""), tagged.get("latest", "")
    return golden.stable_url or stable, golden.canary_url or canary


def _labels(url: str, model: str, golden: Golden) -> list[str | None]:
    server = Server.at("v1", url if "://" in url else f"http://{url}", model, golden.token_file)
    labels = Answers.joined(ask(server, golden.texts)).labels
    if None in labels:
        raise InputError(f"{url} finds no words in golden text {labels.index(None) + 1}")
    return labels
