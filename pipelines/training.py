"""The training pipeline: labelled text in, a tested and registered model bundle out."""

from typing import Dict, List, NamedTuple  # noqa: UP035 - KFP reads these in signatures

from kfp import dsl

from components.data.component import collect, prepare
from components.evaluation.component import evaluate, gate
from components.registry.component import register
from components.training.component import export, fine_tune, train_baseline
from components.tuning.component import tune


class Trained(NamedTuple):
    """What a run of the training pipeline says."""

    accuracy: float
    baseline_accuracy: float
    data_digest: str
    precision: str
    passed: bool
    reasons: List[str]  # noqa: UP006
    report: dsl.HTML
    bundle_uri: str
    digest: str
    version: str


@dsl.pipeline(
    name="pigeonhole-training",
    display_name="Pigeonhole: train a text classifier",
    description="Collect, prepare, train the linear baseline, tune, fine-tune, export, evaluate, gate, register.",
)
def training(
    bundle_root: str,
    data: str = "sample",
    name: str = "news-topics",
    profile: str = "fast",
    backbone: str = "minilm",
    min_accuracy: float = 0.9,
    max_length: int = 128,
    seed: int = 42,
    experiment: str = "",
    hyperparameters: Dict[str, str] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
    mlflow_tracking_uri: str = "",
    checkpoint_root: str = "",
    num_nodes: int = 1,
) -> Trained:
    """Train a text classifier.

    Args:
        bundle_root: folder or object storage URI that holds bundles, such as s3://models/news.
        data: `sample`, a folder with train and test files (CSV or Parquet), or hf:NAME for a hub data set.
        name: the task's name, and the name of the registered model.
        profile: fast (at most 24,000 rows, minutes) or full (all rows).
        backbone: minilm (embedded, no network), a folder, or a hub name such as distilbert-base-uncased.
        min_accuracy: the least test accuracy that passes the gate, a share of 1.
        max_length: tokens a text is cut at.
        seed: fixes the split, the initial head, dropout and the order of the rows.
        experiment: a Katib Experiment as YAML, to search hyper-parameters first; empty for no search.
        hyperparameters: values by name, such as learning_rate, numbers as text; a search overrides them.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.
        checkpoint_root: folder or object storage URI that outlives the pods; killed training goes on from there.
        num_nodes: machines that fine-tune together, as a TrainJob; they share checkpoint_root, an object storage URI.
    """
    run = dsl.PIPELINE_JOB_ID_PLACEHOLDER

    collected = collect(data=data).set_display_name("Collect").outputs
    prepared = prepare(
        collected=collected["collected"], seed=seed, pipeline_run=run, mlflow_tracking_uri=mlflow_tracking_uri
    ).set_display_name("Prepare").outputs  # fmt: skip
    dataset = prepared["dataset"]

    baseline = train_baseline(
        dataset=dataset, profile=profile, seed=seed, pipeline_run=run, mlflow_tracking_uri=mlflow_tracking_uri
    ).set_display_name("Linear baseline").outputs  # fmt: skip
    # Always there, and without an experiment done at once: a condition would need a second step that joins its two
    # branches, and kfp's local runner cannot compare a text that holds quotes, as any YAML does.
    chosen = tune(
        dataset=dataset, experiment=experiment, hyperparameters=hyperparameters, profile=profile, backbone=backbone,
        max_length=max_length, seed=seed, pipeline_run=run, mlflow_tracking_uri=mlflow_tracking_uri,
    ).set_display_name("Tune").output  # fmt: skip
    tuned = fine_tune(
        dataset=dataset, pipeline_run=run, profile=profile, backbone=backbone, max_length=max_length, seed=seed,
        hyperparameters=chosen, mlflow_tracking_uri=mlflow_tracking_uri, checkpoint_root=checkpoint_root,
        num_nodes=num_nodes,
    ).set_display_name("Fine-tune").outputs  # fmt: skip
    exported = export(
        dataset=dataset, checkpoint=tuned["checkpoint"], baseline_accuracy=baseline["Output"], task=name,
        pipeline_run=run, mlflow_tracking_uri=mlflow_tracking_uri,
    ).set_display_name("Export").outputs  # fmt: skip

    evaluated = evaluate(
        dataset=dataset, draft=exported["draft"], baseline=baseline["baseline"], pipeline_run=run,
        mlflow_tracking_uri=mlflow_tracking_uri,
    ).set_display_name("Evaluate").outputs  # fmt: skip
    verdict = gate(
        dataset=dataset, checkpoint=tuned["checkpoint"], evaluation=evaluated["evaluation"], min_accuracy=min_accuracy
    ).set_display_name("Gate").outputs  # fmt: skip
    registered = register(
        bundle=evaluated["bundle"], report=verdict["report"], passed=verdict["passed"], bundle_root=bundle_root,
        name=name, pipeline_run=run,
        mlflow_tracking_uri=mlflow_tracking_uri,
    ).set_display_name("Register").outputs  # fmt: skip

    return Trained(
        accuracy=evaluated["Output"],
        baseline_accuracy=baseline["Output"],
        data_digest=prepared["Output"],
        precision=exported["Output"],
        passed=verdict["passed"],
        reasons=verdict["reasons"],
        report=verdict["report"],
        bundle_uri=registered["bundle_uri"],
        digest=registered["digest"],
        version=registered["version"],
    )
