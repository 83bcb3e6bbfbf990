"""The rollout's parts that need no cluster: its steps in a pipeline, settings, names of versions."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl

from components.rollout.component import end_rollout, judge_rollout, start_rollout
from components.rollout.desired_spec import spec_patch
from components.rollout.inference_service import Service
from components.rollout.state import ModelVersion, Observation, Phase, Rollout, Settings
from components.rollout.transitions import next_state
from components.rollout.versions import check_bundle, version_at
from components.rollout.workloads import Workload, Workloads
from predictor.errors import InputError

A, B = (ModelVersion(letter * 12, f"s3://models/news/{letter * 12}") for letter in "ab")
ROLLOUT = Rollout(A, B, Phase.PREPARING, 0.0, 0.0, Settings(deadline=600))


def service(mode: str = "Standard", uri: str = A.uri, **status: Any) -> Service:
    spec = {"predictor": {"model": {"modelFormat": {"name": "pigeonhole"}, "storageUri": uri}}}
    metadata = {"name": "news", "resourceVersion": "1"}
    return Service({"metadata": metadata, "spec": spec, "status": {"deploymentMode": mode, **status}})


@pytest.mark.filterwarnings("ignore")  # kfp's own
def test_the_steps_compile_into_a_pipeline(tmp_path: Path) -> None:
    @dsl.pipeline(name="rolls-out")  # type: ignore[untyped-decorator]
    def pipeline(bundle_uri: str) -> None:
        done = end_rollout(service="news", pipeline_run="one")
        with dsl.ExitHandler(done):
            begun = start_rollout(service="news", bundle_uri=bundle_uri, pipeline_run="one")
            judge_rollout(service="news", version=begun.output, prometheus="http://p:9090", pipeline_run="one")

    compiler.Compiler().compile(pipeline, str(tmp_path / "pipeline.yaml"))
    assert "exec-judge-rollout" in (tmp_path / "pipeline.yaml").read_text()


@pytest.mark.parametrize(
    "bad",
    [
        {"step_weight": 0},
        {"step_weight": 60},
        {"max_weight": 101},
        {"interval": 0},
        {"deadline": 60},
        {"threshold": 0},
        {"min_requests": -1},
    ],
)
def test_settings_that_make_no_rollout_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="give 0 <"):
        Settings(**bad)  # type: ignore[arg-type]


def test_settings_of_a_pipeline_are_numbers_however_they_are_written() -> None:
    values: dict[str, Any] = {"step_weight": "20", "interval": "60", "threshold": 2.0}
    assert Settings.named(values) == Settings(interval=60, step_weight=20, threshold=2)
    for value in ("some", None, [1]):
        with pytest.raises(InputError, match=r"the rollout setting interval is .*: give a number"):
            Settings.named({"interval": value})  # type: ignore[dict-item]
    for count in (1.5, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"the rollout setting threshold is .*: give a whole number"):
            Settings.named({"threshold": count})


def test_a_version_is_named_by_its_address_and_checked_by_what_lies_there(tmp_path: Path) -> None:
    content = b'{"schema_version": 1}'
    name = hashlib.sha256(content).hexdigest()[:12]
    for folder in (name, "0123456789ab"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "serving.json").write_bytes(content)
    check_bundle(version_at(f"{tmp_path}/{name}/"))
    assert version_at(f"{tmp_path}/{name}") == version_at(f"{tmp_path}/{name}//")
    with pytest.raises(InputError, match=f"has the digest {name}, not that of its name"):
        check_bundle(version_at(f"{tmp_path}/0123456789ab"))
    with pytest.raises(InputError, match="there is no bundle at"):
        check_bundle(version_at(f"{tmp_path}/ffffffffffff"))
    with pytest.raises(InputError, match=r"cannot be read .*look at the address, at its credentials"):
        check_bundle(version_at("nosuchstore://bucket/ffffffffffff"))
    with pytest.raises(InputError, match=r"cannot be read \(ImportError: .*gcsfs.*whether the fsspec driver"):
        check_bundle(version_at("gs://bucket/ffffffffffff"))
    check_bundle(version_at("pvc://claim/ffffffffffff"))  # nobody outside the cluster can look


def test_a_stored_bundle_with_other_files_than_it_lists_is_refused(tmp_path: Path) -> None:
    content = b'{"schema_version": 2, "files": {"onnx/model.onnx": "0"}}'
    folder = tmp_path / hashlib.sha256(content).hexdigest()[:12]
    (folder / "onnx").mkdir(parents=True)
    (folder / "serving.json").write_bytes(content)
    with pytest.raises(InputError, match=r"lacks onnx/model\.onnx"):
        check_bundle(version_at(str(folder)))
    for name in ("onnx/model.onnx", "onnx/.keep"):
        (folder / name).write_text("x")
    check_bundle(version_at(str(folder)))
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"has adapter_config\.json, which its serving\.json does not list"):
        check_bundle(version_at(f"{folder.as_uri()}/"))


def test_knative_traffic_goes_back_before_the_spec_does() -> None:
    """With the spec first, Knative would give the canary all traffic until the restored revision is ready."""
    back = replace(ROLLOUT, phase=Phase.ROLLING_BACK)
    canary = service("Knative", B.uri)
    canary.document["spec"]["predictor"]["canaryTrafficPercent"] = 10
    assert spec_patch(back, canary, Workloads()) == {
        "predictor": {"canaryTrafficPercent": 0, "model": {"storageUri": B.uri}}
    }
    assert (
        spec_patch(back, service("Knative", A.uri), Workloads()) is None
    )  # killed before it began: 0 would flip to an older revision
    restoring = replace(back, phase=Phase.RESTORING, canary_revision="news-00002")
    stale = {"predictor": {"latestCreatedRevision": "news-00002", "latestReadyRevision": "news-00002"}}
    canary = service("Knative", A.uri, components=stale)
    canary.document["spec"]["predictor"]["canaryTrafficPercent"] = 0
    assert (
        spec_patch(restoring, canary, Workloads()) is None
        and next_state(restoring, Observation(canary, 1.0)) == restoring
    )


def test_weights_move_only_when_the_canary_is_ready_at_the_last_one() -> None:
    """The status says what the spec says; the route says what the canary gets."""
    judging = replace(ROLLOUT, phase=Phase.JUDGING, weight=10, running=2)
    predictor = {"name": f"v{B.name}", "minReplicas": 1, "model": {"modelFormat": {"name": "pigeonhole"}}}
    predictor["model"]["storageUri"] = B.uri  # type: ignore[index]
    told = [{"name": f"v{B.name}", "ready": True, "trafficPercent": 10}]
    for available, share, begun in [(0, 0, False), (1, 0, False), (0, 10, False), (1, None, False), (1, 10, True)]:
        seen = service(canaryStatuses=told)
        seen.document["spec"]["canary"] = [{"predictor": predictor, "trafficPercent": 10}]
        seen.document["spec"]["predictor"]["minReplicas"] = 3
        workloads = Workloads(Workload(2, 2), Workload(1, available), share)
        following = next_state(judging, Observation(seen, 50.0, workloads))
        assert bool(following.judged_since) is begun
        late = next_state(judging, Observation(seen, 601.0, workloads))
        assert late.phase is (Phase.JUDGING if begun else Phase.ROLLING_BACK)
