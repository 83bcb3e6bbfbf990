"""Every object, in every overlay, is one that its API server would take: no unknown field, no wrong type."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from tests.conftest import ROOT
from tests.fakes.kserve import Object, deployment, workloads
from tests.manifests.conftest import OVERLAYS, STANDARD_OVERLAYS, Render

RENDERINGS = [
    *OVERLAYS, "standard+keda", "standard+pod-monitor", "knative+pod-monitor", "standard+alerts+dashboards",
    "production+trigger", "standard+spark", "production+prediction-log",
    "knative+prediction-log", "standard+redis", "knative+redis",
]  # fmt: skip
# The oldest that has all we use, and the newest that the package knows.
KUBERNETES = ["1.30", kubernetes_validate.latest_version()]
_OWN_GROUPS = ("serving.kserve.io", "monitoring.coreos.com", "sparkoperator.k8s.io")


def _is_custom(document: Object) -> bool:
    return document["apiVersion"].partition("/")[0] in _OWN_GROUPS


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("name", RENDERINGS)
def test_core_objects_are_valid(render: Render, name: str, kubernetes: str) -> None:
    core = [document for document in render(name) if not _is_custom(document)]
    assert len(core) > 20
    for document in core:
        kubernetes_validate.validate(document, kubernetes, strict=True)


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("name", STANDARD_OVERLAYS)
def test_the_deployment_that_kserve_makes_is_valid(render: Render, name: str, kubernetes: str) -> None:
    made = workloads(render(name))
    assert {workload.name for workload in made} == {"news", "sentiment"}
    for workload in made:
        kubernetes_validate.validate(deployment(workload), kubernetes, strict=True)


def test_a_typo_is_seen(render: Render) -> None:
    document = deployment(workloads(render("standard"))[0])
    document["spec"]["template"]["spec"]["terminationGracePeriod"] = 75
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(document, KUBERNETES[0], strict=True)


@pytest.mark.parametrize("name", RENDERINGS)
def test_custom_objects_are_valid(render: Render, name: str) -> None:
    folder = Path(os.environ.get("PIGEONHOLE_SCHEMAS", ROOT.parent / "shared/schemas"))
    if not folder.is_dir():
        pytest.skip("no schemas of the custom resources: name their folder with PIGEONHOLE_SCHEMAS")
    custom = [document for document in render(name) if _is_custom(document)]
    assert custom
    for document in custom:
        group, _, version = document["apiVersion"].partition("/")
        schema = folder / f"{group}_{document['kind']}_{version}.json"
        if group == "sparkoperator.k8s.io" and not schema.is_file():
            pytest.skip(f"no {schema.name} in PIGEONHOLE_SCHEMAS: make it from the Spark operator's definitions")
        _validator(schema).validate(document)


@cache
def _validator(schema: Path) -> Any:
    """Return what checks objects by a schema; a schema of KServe's has a megabyte, and takes its time."""
    # Go's flag for patterns without regard to case, which Python takes only at their start; ours are in small letters.
    content = json.loads(schema.read_text().replace("(?i)", ""))
    kind = jsonschema.validators.validator_for(content)
    kind.check_schema(content)
    return kind(content)
