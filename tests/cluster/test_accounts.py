"""The rendered objects on a real API server: it takes them, and the accounts may do what they must and no more."""

import subprocess
from pathlib import Path

import pytest
import yaml
from kubernetes import client

from tests.manifests.conftest import Render
from tests.manifests.conftest import render as render

pytestmark = pytest.mark.cluster
NAMESPACE, SEARCH = "pigeonhole", "pigeonhole-search"
_STEPS, _ROLLOUT, _PREDICTOR = "pigeonhole-steps", "pigeonhole-rollout", "pigeonhole-predictor"

# account, verb, group, resource, name, whether it may
RIGHTS = [
    (_STEPS, "create", "kubeflow.org", "experiments", "", False),
    (_STEPS, "create", "trainer.kubeflow.org", "trainjobs", "", True),
    (_STEPS, "delete", "trainer.kubeflow.org", "trainjobs", "", True),
    (_STEPS, "patch", "argoproj.io", "workflowtaskresults", "", True),
    (_STEPS, "get", "", "secrets", "mlpipeline-minio-artifact", True),
    (_STEPS, "get", "", "secrets", "pigeonhole-storage", False),
    (_STEPS, "list", "", "secrets", "", False),
    (_STEPS, "get", "serving.kserve.io", "inferenceservices", "news", False),
    (_STEPS, "patch", "serving.kserve.io", "inferenceservices", "news", False),
    (_STEPS, "create", "", "pods", "", False),
    (_ROLLOUT, "get", "serving.kserve.io", "inferenceservices", "news", True),
    (_ROLLOUT, "patch", "serving.kserve.io", "inferenceservices", "news", True),
    (_ROLLOUT, "get", "apps", "deployments", "news-predictor", True),
    (_ROLLOUT, "list", "", "pods", "", True),
    (_ROLLOUT, "create", "serving.kserve.io", "inferenceservices", "", False),
    (_ROLLOUT, "delete", "serving.kserve.io", "inferenceservices", "news", False),
    (_ROLLOUT, "patch", "apps", "deployments", "news-predictor", False),
    (_ROLLOUT, "delete", "", "pods", "", False),
    (_ROLLOUT, "create", "rbac.authorization.k8s.io", "rolebindings", "", False),
    (_PREDICTOR, "get", "", "pods", "", False),
    (_PREDICTOR, "get", "serving.kserve.io", "inferenceservices", "news", False),
]
# In the namespace for searches, what a search needs and no more.
SEARCHING = [
    (_STEPS, "create", "kubeflow.org", "experiments", "", True),
    (_STEPS, "get", "kubeflow.org", "experiments", "one", True),
    (_STEPS, "delete", "kubeflow.org", "experiments", "one", True),
    (_ROLLOUT, "create", "kubeflow.org", "experiments", "", True),
    (_STEPS, "get", "", "namespaces", SEARCH, True),
    (_STEPS, "create", "trainer.kubeflow.org", "trainjobs", "", False),
    (_STEPS, "list", "", "secrets", "", False),
    (_STEPS, "create", "", "pods", "", False),
    (_PREDICTOR, "get", "kubeflow.org", "experiments", "one", False),
]


@pytest.fixture(scope="module")
def applied(kubeconfig: Path, render: Render) -> None:
    objects = yaml.safe_dump_all(render("standard"))
    command = ["kubectl", "--kubeconfig", str(kubeconfig), "apply", "--server-side", "-f", "-"]
    for _ in range(2):  # the second time changes nothing, and is taken as well
        done = subprocess.run(command, input=objects, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def tokens(applied: None, api: client.ApiClient) -> dict[str, str]:
    core = client.CoreV1Api(api)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}}
    return {
        account: core.create_namespaced_service_account_token(account, NAMESPACE, request).status.token
        for account in (_STEPS, _ROLLOUT, _PREDICTOR)
    }


@pytest.mark.parametrize(("account", "verb", "group", "resource", "name", "allowed"), RIGHTS)
def test_an_account_may_do_what_it_must_and_no_more(
    tokens: dict[str, str], api: client.ApiClient, account: str, verb: str, group: str, resource: str, name: str,
    allowed: bool,
) -> None:  # fmt: skip
    asked = {"verb": verb, "group": group, "resource": resource, "name": name}
    assert _may(api, tokens[account], NAMESPACE, asked) == allowed
    assert not _may(api, tokens[account], "default", asked)


@pytest.mark.parametrize(("account", "verb", "group", "resource", "name", "allowed"), SEARCHING)
def test_an_account_may_search_in_the_namespace_for_it(
    tokens: dict[str, str], api: client.ApiClient, account: str, verb: str, group: str, resource: str, name: str,
    allowed: bool,
) -> None:  # fmt: skip
    assert _may(api, tokens[account], SEARCH, {"verb": verb, "group": group, "resource": resource, "name": name}) == (
        allowed
    )


def test_a_step_sees_what_the_namespace_for_searches_enforces(tokens: dict[str, str], api: client.ApiClient) -> None:
    with _as(api, tokens[_STEPS]) as connection:
        found = client.CoreV1Api(connection).read_namespace(SEARCH)
    assert found.metadata.labels["pod-security.kubernetes.io/enforce"] == "baseline"


def _may(api: client.ApiClient, token: str, namespace: str, asked: dict[str, str]) -> bool:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {**asked, "namespace": namespace}},
    }
    with _as(api, token) as connection:
        return bool(client.AuthorizationV1Api(connection).create_self_subject_access_review(review).status.allowed)


def _as(api: client.ApiClient, token: str) -> client.ApiClient:
    settings = client.Configuration()
    settings.host, settings.verify_ssl = api.configuration.host, False
    settings.api_key = {"authorization": f"Bearer {token}"}
    return client.ApiClient(settings)
