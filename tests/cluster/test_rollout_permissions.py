"""What the service account of a rollout may do, asked with its own token."""

from pathlib import Path

import pytest
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from components.platform.kubernetes import Cluster
from components.rollout.controller import run_to_end, start
from components.rollout.endings import roll_back
from components.rollout.record import load
from components.rollout.state import Phase
from predictor.errors import InputError
from tests.cluster.replay import SETTINGS, A, B, C, Time, evidence
from tests.conftest import ROOT
from tests.fakes.kserve_on_cluster import NAME, Kserve, uri

ACCOUNT = "pigeonhole-rollout"
MANIFEST = ROOT / "manifests" / "pipelines" / "rollout.yaml"


def account(cluster: Cluster, *, bound: bool) -> Cluster:
    """The cluster as the service account sees it."""
    api, namespace = cluster.api.api_client, cluster.namespace
    client.CoreV1Api(api).create_namespaced_service_account(namespace, {"metadata": {"name": ACCOUNT}})
    if bound:
        role, binding = yaml.safe_load_all(Path(MANIFEST).read_text())
        rbac = client.RbacAuthorizationV1Api(api)
        rbac.create_namespaced_role(namespace, role)
        rbac.create_namespaced_role_binding(namespace, binding)
    token = client.CoreV1Api(api).create_namespaced_service_account_token(ACCOUNT, namespace, {"spec": {}})
    settings = client.Configuration(host=api.configuration.host)
    settings.verify_ssl, settings.ssl_ca_cert = api.configuration.verify_ssl, api.configuration.ssl_ca_cert
    settings.api_key = {"authorization": f"Bearer {token.status.token}"}
    return Cluster(client.CustomObjectsApi(client.ApiClient(settings)), namespace)


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_it_can_roll_out_judge_and_roll_back(cluster: Cluster, mode: str) -> None:
    kserve = Kserve(cluster)
    kserve.install(A, mode)
    own, time = account(cluster, bound=True), Time(kserve)
    start(own, NAME, uri(B), SETTINGS, time.clock)
    assert run_to_end(own, NAME, evidence(), time.clock).phase is Phase.PROMOTED
    kserve.broken.add(C)
    time.sleep(0)
    start(own, NAME, uri(C), SETTINGS, time.clock)
    assert run_to_end(own, NAME, evidence(), time.clock).phase is Phase.ROLLED_BACK  # it looked at the pods, too
    roll_back(own, NAME, A, time.clock)
    time.sleep(0)
    assert kserve.routes[-1] == {A: 100}


def test_it_can_do_nothing_else(cluster: Cluster) -> None:
    own = account(cluster, bound=True)
    review = client.AuthorizationV1Api(own.api.api_client)
    rules = review.create_self_subject_rules_review({"spec": {"namespace": cluster.namespace}}).status.resource_rules
    everybody = {"authorization.k8s.io", "authentication.k8s.io"}
    found = {
        (group, resource, verb)
        for rule in rules
        for group in rule.api_groups
        for resource in rule.resources
        for verb in rule.verbs
        if group not in everybody
    }
    assert found == {
        ("serving.kserve.io", "inferenceservices", "get"),
        ("serving.kserve.io", "inferenceservices", "patch"),
        ("", "configmaps", "get"),
        ("", "configmaps", "create"),
        ("", "configmaps", "update"),
        ("gateway.networking.k8s.io", "httproutes", "get"),
        ("apps", "deployments", "get"),
        ("", "pods", "list"),
    }
    with pytest.raises(ApiException) as caught:
        client.CoreV1Api(own.api.api_client).list_namespaced_config_map("default")
    assert caught.value.status == 403


def test_without_permission_there_is_a_sentence_and_nothing_happens(cluster: Cluster) -> None:
    kserve = Kserve(cluster)
    kserve.install(A)
    before, own = kserve.service(), account(cluster, bound=False)
    with pytest.raises(
        InputError, match=r"forbids it in namespace .*pigeonhole-rollout of manifests/pipelines"
    ) as caught:
        start(own, NAME, uri(B), SETTINGS, Time(kserve).clock)
    assert "\n" not in str(caught.value) and kserve.service() == before


def test_one_that_may_not_change_the_service_leaves_no_rollout_under_way(cluster: Cluster) -> None:
    kserve = Kserve(cluster)
    kserve.install(A)
    own = account(cluster, bound=True)
    rules = [{"op": "replace", "path": "/rules/0/verbs", "value": ["get"]}]
    client.RbacAuthorizationV1Api(cluster.api.api_client).patch_namespaced_role(ACCOUNT, cluster.namespace, rules)
    with pytest.raises(InputError, match="cannot patch resource"):
        start(own, NAME, uri(B), SETTINGS, Time(kserve).clock)
    assert "canary" not in kserve.service()["spec"] and load(cluster, NAME).active is None
