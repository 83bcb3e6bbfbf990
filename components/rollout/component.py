"""KFP components of the rollout stage."""

from typing import Dict, List, NamedTuple  # noqa: UP035 - KFP reads these in signatures

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def start_rollout(
    service: str,
    bundle_uri: str,
    pipeline_run: str,
    passed: bool = True,
    namespace: str = "",
    settings: Dict[str, float] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
) -> str:
    """Put a bundle beside the one that is served, without traffic.

    Args:
        service: the InferenceService.
        bundle_uri: the bundle's address, as the register step returns it.
        pipeline_run: id of the pipeline run, to which the rollout belongs.
        passed: whether the bundle passed the gate; otherwise it is not rolled out.
        namespace: where the service is; empty for the step's own.
        settings: how it is judged, by name: interval and deadline in seconds, step_weight and max_weight in percent,
            threshold in failed checks, min_requests. The defaults are those of `pigeonhole rollout start`.

    Returns:
        The version; empty where the bundle did not pass.
    """
    if not passed:
        return ""
    from components.platform.kubernetes import connect
    from components.platform.termination import one_sentence
    from components.rollout.controller import start
    from components.rollout.state import Settings

    with one_sentence():
        record = start(connect(namespace), service, bundle_uri, Settings.named(settings), owner=pipeline_run)
    assert record.rollout is not None
    return record.rollout.canary.name


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def judge_rollout(
    service: str,
    version: str,
    prometheus: str,
    pipeline_run: str,
    namespace: str = "",
    selector: str = "",
    golden: List[str] = [],  # noqa: B006, UP006 - KFP writes the default into the IR
    mlflow_tracking_uri: str = "",
) -> NamedTuple("Judged", promoted=bool, reasons=List[str]):  # type: ignore[valid-type]  # noqa: UP006
    """Give a canary more and more traffic while its checks pass, and promote it or roll it back.

    Args:
        service: the InferenceService.
        version: what start_rollout returned; where it is empty nothing is judged.
        prometheus: address of the Prometheus that scrapes the predictors.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run; only its own rollout is judged.
        namespace: where the service is; empty for the step's own.
        selector: PromQL label matchers of the service's metrics; empty for its namespace and model_name.
        golden: texts that both versions classify before the canary gets any traffic.
        mlflow_tracking_uri: the MLflow server; empty for the one of the step's environment.

    Returns:
        Whether the version has all traffic now, and why, or why not.
    """
    from collections import namedtuple

    from components.platform.kubernetes import connect
    from components.platform.termination import one_sentence
    from components.platform.tracking import tracked_step
    from components.rollout.controller import RolloutRef, run_to_end
    from components.rollout.golden import Golden
    from components.rollout.judging.evidence import Prometheus, selector_of
    from components.rollout.observer import Evidence
    from components.rollout.state import Phase

    Judged = namedtuple("Judged", ["promoted", "reasons"])
    if not version:
        return Judged(False, ["the gate stayed closed"])
    with one_sentence(), tracked_step("rollout", pipeline_run, mlflow_tracking_uri, system_metrics=False) as step:
        cluster = connect(namespace)
        where = Prometheus(prometheus, selector or selector_of(cluster.namespace, service))
        evidence = Evidence(where, Golden(golden) if golden else None)
        end = run_to_end(cluster, service, evidence, ref=RolloutRef(pipeline_run, version))
        step.headline(tags={"rollout": str(end.phase), "rollout_reasons": "; ".join(end.reasons)})
    return Judged(end.phase is Phase.PROMOTED, list(end.reasons))


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def end_rollout(service: str, pipeline_run: str, namespace: str = "") -> str:
    """Roll back a canary that is no longer judged: the exit handler of a pipeline, however it ended.

    Args:
        service: the InferenceService; empty where the pipeline rolls nothing out.
        pipeline_run: id of the pipeline run; a rollout that another one started is left alone.
        namespace: where it is; empty for the step's own.

    Returns:
        How the run's rollout ended: promoted or rolled back; empty where there is none.
    """
    if not service:
        return ""
    from components.platform.kubernetes import connect
    from components.platform.termination import one_sentence
    from components.rollout.endings import abort

    with one_sentence():
        end = abort(connect(namespace), service, pipeline_run)
    return str(end.phase) if end else ""
