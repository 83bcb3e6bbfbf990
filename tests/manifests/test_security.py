"""Which pods the namespaces let in, and whether ours are among them."""

from copy import deepcopy

import pytest
import yaml

from tests.conftest import ROOT
from tests.fakes.kserve import MODEL_VOLUME, fetched_by, workloads
from tests.manifests.conftest import OVERLAYS, Render, of_kind
from tests.pod_security import violations


@pytest.mark.parametrize("name", OVERLAYS)
def test_namespaces_say_what_the_platform_looks_for(render: Render, name: str) -> None:
    labels = {o["metadata"]["name"]: o["metadata"]["labels"] for o in of_kind(render(name), "Namespace")}
    assert set(labels) == {"pigeonhole", "pigeonhole-search"}
    standards = {place: found["pod-security.kubernetes.io/enforce"] for place, found in labels.items()}
    assert standards == {"pigeonhole": "restricted", "pigeonhole-search": "baseline"}
    # Whom SeaweedFS lets in, where runs get their credentials, and where trials get their metrics read.
    assert {found["app.kubernetes.io/part-of"] for found in labels.values()} == {"kubeflow-profile"}
    assert labels["pigeonhole"]["pipelines.kubeflow.org/enabled"] == "true"
    assert labels["pigeonhole-search"]["katib.kubeflow.org/metrics-collector-injection"] == "enabled"


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_keep_to_the_restricted_standard_and_more(render: Render, name: str) -> None:
    for workload in workloads(render(name)):
        security = workload.container["securityContext"]
        assert violations(workload.pod) == []
        assert security["runAsUser"] == 10001
        assert security["readOnlyRootFilesystem"] is True
        places = {volume["name"]: volume for volume in workload.pod["volumes"] if volume["name"] != MODEL_VOLUME}
        assert all("emptyDir" in volume and volume["emptyDir"]["sizeLimit"] for volume in places.values())
        mounts = {mount["mountPath"]: mount["name"] for mount in workload.container["volumeMounts"]}
        assert mounts["/tmp"] in places


def test_the_standard_refuses_the_initializer_that_kserve_takes_by_itself(render: Render) -> None:
    objects = deepcopy(render("knative"))  # where a pod's security context is no help
    for service in of_kind(objects, "InferenceService"):
        del service["spec"]["predictor"]["storageContainerName"]
    for workload in workloads(objects):
        assert violations(workload.pod) == [
            f"initContainers storage-initializer: {field}"
            for field in ("allowPrivilegeEscalation", "capabilities", "runAsNonRoot", "seccompProfile")
        ]


@pytest.mark.parametrize(
    "address",
    [
        "s3://models/news/0123456789ab", "gs://models/news/0123456789ab", "hf://team/news", "pvc://models/news",
        "https://team.blob.core.windows.net/models/news", "oci://registry.example.com/news:1",
        "oci+native://registry.example.com/news:1",
    ],
)  # fmt: skip
def test_bundles_may_lie_wherever_kserve_fetches_from(render: Render, address: str) -> None:
    (container,) = of_kind(render("standard"), "ClusterStorageContainer")
    name, spec = container["metadata"]["name"], container["spec"]
    predictor = {"model": {"storageUri": address}, "storageContainerName": name}
    assert fetched_by(predictor, {name: spec})["securityContext"]["runAsNonRoot"] is True
    assert spec["supportsMultiModelDownload"] is True  # else KServe refuses other services that it picks this one for
    assert "image" not in spec["container"]  # the version of the KServe that runs


def test_trials_keep_to_the_restricted_standard() -> None:
    experiment = yaml.safe_load((ROOT / "manifests/katib/experiment.yaml").read_text())
    assert violations(experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_search_goes_where_katibs_own_pods_may_run(render: Render, name: str) -> None:
    experiment = yaml.safe_load((ROOT / "manifests/katib/experiment.yaml").read_text())
    standards = {
        o["metadata"]["name"]: o["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for o in of_kind(render(name), "Namespace")
    }
    assert standards[experiment["metadata"]["namespace"]] == "baseline"
