"""KFP components of the rollout stage."""

from typing import Dict, List, NamedTuple  # noqa: UP035 - KFP reads these in signatures

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def start_rollout(
    service: str,
    bundle_uri: str,
    pipeline_run: str,
    namespace: str = "",
    settings: Dict[str, float] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
) -> str:
    """Put a bundle beside the one that is served, without traffic.

    Args:
        service: the InferenceService.
        bundle_uri: the bundle's address, as the register step returns it.
        pipeline_run: id of the pipeline run, to which the rollout belongs.
        namespace: where the service is; empty for the step's own.
        settings: how it is judged, by name: interval and deadline in seconds, step_weight and max_weight in percent,
            threshold in failed checks, min_requests. The defaults are those of `pigeonhole rollout start`.

    Returns:
        The version.
    """
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

    When it was promoted, the alias champion of its model moves to its version in MLflow.

    Args:
        service: the InferenceService.
        version: what start_rollout returned.
        prometheus: address of the Prometheus that scrapes the predictors.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run; only its own rollout is judged.
        namespace: where the service is; empty for the step's own.
        selector: PromQL label matchers of the service's metrics; empty for its namespace and model_name.
        golden: texts that both versions classify before the canary gets any traffic. If the predictors want a bearer
            token, it comes from the Secret pigeonhole-tokens beside the service.
        mlflow_tracking_uri: the MLflow server; empty for the one of the step's environment.

    Returns:
        Whether the version has all traffic now, and why, or why not.
    """
    from collections import namedtuple
    from contextlib import nullcontext

    from components.platform.kubernetes import connect
    from components.platform.termination import one_sentence
    from components.platform.tracking import tracked_step
    from components.registry.promotion import conclude_rollout
    from components.rollout.controller import RolloutRef, run_to_end
    from components.rollout.golden import Golden, predictors_token
    from components.rollout.judging.evidence import Prometheus, selector_of
    from components.rollout.observer import Evidence
    from components.rollout.state import Phase

    Judged = namedtuple("Judged", ["promoted", "reasons"])
    with one_sentence(), tracked_step("rollout", pipeline_run, mlflow_tracking_uri, system_metrics=False) as step:
        cluster = connect(namespace)
        metrics = Prometheus(prometheus, selector or selector_of(cluster.namespace, service))
        with predictors_token(cluster) if golden else nullcontext() as token_file:
            evidence = Evidence(metrics, Golden(golden, token_file=token_file) if golden else None)
            end = run_to_end(cluster, service, evidence, ref=RolloutRef(pipeline_run, version))
        where = f"{cluster.namespace}/{service}"
        conclude_rollout(step.client, where, end.canary.name, str(end.phase), end.since, end.reasons)
        step.headline(tags={"rollout": str(end.phase), "rollout_reasons": "; ".join(end.reasons)})
    return Judged(end.phase is Phase.PROMOTED, list(end.reasons))


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def end_rollout(service: str, pipeline_run: str, namespace: str = "", mlflow_tracking_uri: str = "") -> str:
    """Roll back a canary that is no longer judged: the exit handler of a pipeline, however it ended.

    A promotion that was decided is finished, and MLflow is told of it if the judge could not.

    Args:
        service: the InferenceService; empty where the pipeline rolls nothing out.
        pipeline_run: id of the pipeline run; a rollout that another one started is left alone.
        namespace: where it is; empty for the step's own.
        mlflow_tracking_uri: the MLflow server; empty for the one of the step's environment.

    Returns:
        How the run's rollout ended: promoted or rolled back; empty where there is none.
    """
    if not service:
        return ""
    from components.platform.kubernetes import connect
    from components.platform.termination import one_sentence
    from components.rollout.endings import abort

    with one_sentence():
        cluster = connect(namespace)
        end = abort(cluster, service, pipeline_run)
        if end is None:
            return ""
        from components.platform.tracking import mlflow_client
        from components.registry.promotion import conclude_rollout

        where = f"{cluster.namespace}/{service}"
        with mlflow_client(mlflow_tracking_uri) as client:
            conclude_rollout(client, where, end.canary.name, str(end.phase), end.since, end.reasons)
    return str(end.phase)
