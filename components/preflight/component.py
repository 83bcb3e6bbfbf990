"""KFP component of the preflight stage."""

from typing import Dict  # noqa: UP035 - KFP reads typing.Dict in signatures

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def check(
    name: str,
    bundle_root: str,
    mlflow_tracking_uri: str = "",
    profile: str = "fast",
    backbone: str = "minilm",
    min_accuracy: float = 0.9,
    max_length: int = 128,
    experiment: str = "",
    hyperparameters: Dict[str, str] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
    checkpoint_root: str = "",
    num_nodes: int = 1,
    service: str = "",
    namespace: str = "",
    prometheus: str = "",
    rollout: Dict[str, float] = {},  # noqa: B006, UP006
) -> bool:
    """Refuse at once what a later step would refuse, and try out object storage and MLflow.

    Args:
        name: the registered model's name.
        bundle_root: folder or object storage URI that will hold the bundle.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.
        profile: fast or full.
        backbone: the encoder; one on a hub is not downloaded here.
        min_accuracy: the least test accuracy that passes the gate, a share of 1.
        max_length: tokens a text is cut at.
        experiment: a Katib Experiment as YAML, or empty.
        hyperparameters: values by name, numbers as text.
        checkpoint_root: folder or object storage URI for checkpoints; empty for none.
        num_nodes: machines that fine-tune together.
        service: the InferenceService that gets the bundle; empty for no rollout.
        namespace: where the service is; empty for the step's own.
        prometheus: address of the Prometheus that a rollout is judged by.
        rollout: how a canary is judged, by name.

    Returns:
        True.
    """
    from components.platform.termination import one_sentence
    from components.preflight.check import Plan, check

    with one_sentence():
        check(
            Plan(
                name, bundle_root, mlflow_tracking_uri, profile, backbone, min_accuracy, max_length, experiment,
                hyperparameters, checkpoint_root, num_nodes, service, namespace, prometheus, rollout,
            )
        )  # fmt: skip
    return True
