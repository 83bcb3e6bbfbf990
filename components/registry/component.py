"""KFP components of the registry stage."""

from typing import NamedTuple

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def register(
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    report: dsl.Input[dsl.HTML],
    passed: bool,
    bundle_root: str,
    name: str,
    pipeline_run: str,
    mlflow_tracking_uri: str = "",
) -> NamedTuple("Registered", bundle_uri=str, digest=str, version=str):  # type: ignore[valid-type]
    """Store the bundle under its digest and register it in MLflow, as champion if the gate passed.

    Args:
        bundle: the finished bundle.
        evaluation: the test's figures, logged to the run.
        report: the HTML report, logged to the run.
        passed: what the gate said.
        bundle_root: folder or object storage URI that holds bundles, such as s3://models/news.
        name: the registered model's name.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.

    Returns:
        The bundle's address, its digest and the model version.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.evaluation.scores import EVALUATION_FILE, Evaluation
    from components.registry.register import register
    from components.registry.tracking import tracked_run
    from components.termination import one_sentence

    with one_sentence(), tracked_run(pipeline_run, mlflow_tracking_uri) as client:
        result = register(
            client,
            Path(bundle.path),
            Evaluation.load(Path(evaluation.path) / EVALUATION_FILE),
            Path(report.path),
            passed,
            bundle_root,
            name,
        )
    Registered = namedtuple("Registered", ["bundle_uri", "digest", "version"])
    return Registered(result.uri, result.digest, result.version)
