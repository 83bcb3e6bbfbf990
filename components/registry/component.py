"""KFP components of the registry stage."""

from typing import List, NamedTuple  # noqa: UP035 - KFP reads these in signatures

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def register(
    bundle: dsl.Input[dsl.Model],
    report: dsl.Input[dsl.HTML],
    passed: bool,
    bundle_root: str,
    name: str,
    pipeline_run: str,
    reasons: List[str] = [],  # noqa: B006, UP006 - KFP writes the default into the IR
    mlflow_tracking_uri: str = "",
) -> NamedTuple("Registered", bundle_uri=str, digest=str, version=str):  # type: ignore[valid-type]
    """Store the bundle under its digest and register it in MLflow, as challenger if it passed the gate.

    The champion moves when the canary was promoted, not here.

    Args:
        bundle: the finished bundle.
        report: the HTML report, logged to the pipeline's MLflow run.
        passed: whether the bundle passed the gate.
        bundle_root: folder or object storage URI that holds bundles, such as s3://models/news.
        name: the registered model's name.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run.
        reasons: the gate's checks in words, kept with the version.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.

    Returns:
        The bundle's address, its digest and the model version.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.platform.termination import one_sentence
    from components.platform.tracking import tracked_step
    from components.registry.register import register

    with one_sentence(), tracked_step("register", pipeline_run, mlflow_tracking_uri) as step:
        result = register(step, Path(bundle.path), Path(report.path), passed, bundle_root, name, reasons)
        step.conclude()
    Registered = namedtuple("Registered", ["bundle_uri", "digest", "version"])
    return Registered(result.uri, result.digest, result.version)
