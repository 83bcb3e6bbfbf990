"""KFP component of the preflight stage."""

from typing import Dict, List  # noqa: UP035 - KFP reads these in signatures

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
    thresholds: Dict[str, float] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
    max_length: int = 128,
    experiment: str = "",
    hyperparameters: Dict[str, str] = {},  # noqa: B006, UP006
    checkpoint_root: str = "",
    num_nodes: int = 1,
    service: str = "",
    namespace: str = "",
    prometheus: str = "",
    rollout: Dict[str, float] = {},  # noqa: B006, UP006
    checks: Dict[str, float] = {},  # noqa: B006, UP006
    split: Dict[str, str] = {},  # noqa: B006, UP006
    labels: List[str] = [],  # noqa: B006, UP006
    ordinal: bool = False,
    multi_label: bool = False,
    answer: Dict[str, str] = {},  # noqa: B006, UP006
) -> bool:
    """Refuse at once what a later step would refuse, and try out object storage and MLflow.

    Args:
        name: the registered model's name.
        bundle_root: folder or object storage URI that will hold the bundle.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.
        profile: fast or full.
        backbone: the encoder; one on a hub is not downloaded here.
        min_accuracy: the least test accuracy that passes the gate, a share of 1.
        thresholds: other thresholds of the gate, by name.
        max_length: tokens a text is cut at.
        experiment: a Katib Experiment as YAML, or empty.
        hyperparameters: values by name, numbers as text.
        checkpoint_root: folder or object storage URI for checkpoints; empty for none.
        num_nodes: machines that fine-tune together.
        service: the InferenceService that gets the bundle; empty for no rollout.
        namespace: where the service is; empty for the step's own.
        prometheus: address of the Prometheus that a rollout is judged by.
        rollout: how a canary is judged, by name.
        checks: limits of the data, by name.
        split: how missing splits are drawn, by name.
        labels: the classes in their order; empty for those of the data.
        ordinal: whether they are steps from the lowest to the highest.
        multi_label: whether a text may have any number of them, also none.
        answer: the verb and the field of the plain REST interface; empty for the usual ones.

    Returns:
        True.
    """
    from components.platform.termination import one_sentence
    from components.preflight.check import Plan, check

    with one_sentence():
        check(
            Plan(
                name=name, bundle_root=bundle_root, mlflow_tracking_uri=mlflow_tracking_uri, profile=profile,
                backbone=backbone, min_accuracy=min_accuracy, thresholds=thresholds, max_length=max_length,
                experiment=experiment, hyperparameters=hyperparameters, checkpoint_root=checkpoint_root,
                num_nodes=num_nodes, service=service, namespace=namespace, prometheus=prometheus, rollout=rollout,
                checks=checks, split=split, labels=labels, ordinal=ordinal,
                multi_label=multi_label, answer=answer,
            )
        )  # fmt: skip
    return True
