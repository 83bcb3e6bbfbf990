"""The monitoring pipeline: from the prediction log to a decision, and to what follows from it."""

from typing import Dict, List, NamedTuple  # noqa: UP035 - KFP reads these in signatures

from kfp import dsl

from components.monitoring.component import ask_for_labels, current, decide, join_labels, start_training
from components.monitoring.drift.component import drift
from components.monitoring.log.component import compact


class Watched(NamedTuple):
    """The outputs of a round of monitoring."""

    answer: str
    new_rows: int
    digest: str


@dsl.pipeline(
    name="pigeonhole-monitoring",
    display_name="Pigeonhole: watch a text classifier",
    description="Compact the prediction log, look for drift, decide, and stop, ask for labels or start a training.",
)
def monitoring(
    log_url: str,
    model: str,
    data: str,
    data_root: str,
    bundle: str = "",
    name: str = "",
    mlflow_tracking_uri: str = "",
    hours: float = 24.0,
    guards: Dict[str, float] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
    alert: str = "",
    new_labels: bool = False,
    budget: int = 200,
    training: List[str] = [],  # noqa: B006, UP006
    results: str = "",
    host: str = "",
    namespace: str = "",
    service_account: str = "",
    push_url: str = "",
    seed: int = 42,
) -> Watched:
    """Watch a text classifier once, and do what follows.

    Args:
        log_url: folder or object storage URI of the prediction log.
        model: the model's name in the log.
        data: address of the prepared dataset that the first model was trained on.
        data_root: folder or object storage URI under which enlarged datasets are kept.
        bundle: address of the bundle in service; empty for that of the champion.
        name: the registered model; empty for the model's name in the log.
        mlflow_tracking_uri: the MLflow server; empty for MLFLOW_TRACKING_URI of the steps' environment.
        hours: the window of the log, up to now.
        guards: limits of retraining by name: cooldown_hours, min_new_rows, max_a_week.
        alert: the alert that asks for an action, in words; empty for a scheduled round.
        new_labels: whether feedback may name labels that the dataset lacks.
        budget: how many rows people are asked to label where new labels are needed.
        training: parameters of the training pipeline, NAME=VALUE each.
        results: folder of results, where training runs in the step itself; empty to submit it to Kubeflow.
        host: address of Kubeflow Pipelines for the training.
        namespace: the training's namespace; empty for that of the pod.
        service_account: what the training's steps run as; empty for the installation's default.
        push_url: a Pushgateway that gets the gauges; empty for none.
        seed: random seed of validation rows, folds and samples.
    """
    compacted = compact(log_url=log_url, model=model).set_display_name("Compact log")
    found = current(
        log_url=log_url, model=model, data=data, bundle=bundle, name=name, mlflow_tracking_uri=mlflow_tracking_uri
    ).set_display_name("Find what is in service").outputs  # fmt: skip
    watched = drift(
        bundle=found["served"], name=model, log_url=log_url, hours=hours, push_url=push_url
    ).after(compacted).set_display_name("Look for drift").outputs  # fmt: skip
    joined = join_labels(
        dataset=found["dataset"], log_url=log_url, model=model, new_labels=new_labels, seed=seed
    ).after(compacted).set_display_name("Join labels").outputs  # fmt: skip
    decided = decide(
        verdict=watched["verdict"], log_url=log_url, model=model, added=joined["added"], digest=joined["digest"],
        guards=guards, alert=alert,
    ).set_display_name("Decide").outputs  # fmt: skip

    with dsl.If(decided["Output"] == "label", name="label"):
        ask_for_labels(
            served=found["served"], enlarged=joined["enlarged"], verdict=watched["verdict"], budget=budget, seed=seed
        ).set_display_name("Ask for labels")  # fmt: skip
    with dsl.If(decided["Output"] == "retrain", name="retrain"):
        start_training(
            enlarged=joined["enlarged"], decision=decided["decision"], log_url=log_url, model=model,
            digest=joined["digest"], data_root=data_root, name=name, results=results, training=training, host=host,
            namespace=namespace, service_account=service_account,
        ).set_display_name("Start training")  # fmt: skip

    return Watched(answer=decided["Output"], new_rows=joined["added"], digest=joined["digest"])
