"""The training pipeline: from labelled text to an evaluated, registered and rolled-out model bundle."""

from typing import Dict, List, NamedTuple  # noqa: UP035 - KFP reads these in signatures

from kfp import dsl

from components.data.component import collect, inspect, prepare
from components.evaluation.component import evaluate, gate, refuse, report
from components.preflight.component import check
from components.registry.component import register
from components.rollout.component import end_rollout, judge_rollout, start_rollout
from components.training.component import export, fine_tune, train_baseline
from components.tuning.component import tune


class Trained(NamedTuple):
    """The outputs of a run of the training pipeline."""

    accuracy: float
    baseline_accuracy: float
    data_digest: str
    precision: str
    passed: bool
    reasons: List[str]  # noqa: UP006
    report: dsl.HTML
    inspection: dsl.HTML
    label_errors: int
    bundle_uri: str
    digest: str
    version: str


@dsl.pipeline(
    name="pigeonhole-training",
    display_name="Pigeonhole: train a text classifier",
    description="Collect, prepare, inspect, train a baseline, tune, train, export, evaluate, gate, register, roll out.",
)
def training(
    bundle_root: str,
    data: str = "sample",
    columns: Dict[str, str] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
    query: str = "",
    name: str = "classifier",
    profile: str = "fast",
    backbone: str = "minilm",
    min_accuracy: float = 0.9,
    thresholds: Dict[str, float] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
    max_length: int = 128,
    seed: int = 42,
    experiment: str = "",
    hyperparameters: Dict[str, str] = {},  # noqa: B006, UP006
    mlflow_tracking_uri: str = "",
    checkpoint_root: str = "",
    num_nodes: int = 1,
    service: str = "",
    namespace: str = "",
    prometheus: str = "",
    rollout: Dict[str, float] = {},  # noqa: B006, UP006
    golden: List[str] = [],  # noqa: B006, UP006
    checks: Dict[str, float] = {},  # noqa: B006, UP006
    split: Dict[str, str] = {},  # noqa: B006, UP006
    labels: List[str] = [],  # noqa: B006, UP006
    ordinal: bool = False,
    multi_label: bool = False,
    behaviour: str = "",
    answer: Dict[str, str] = {},  # noqa: B006, UP006
) -> Trained:
    """Train a text classifier, and roll it out if a service is given.

    Args:
        bundle_root: folder or object storage URI for bundles, such as s3://models/news.
        data: the address of a source: `sample`, `sample:NAME`, a folder or a file, s3://, https:// and others, sql:URL,
            hf:NAME or named:NAME.
        columns: the source's names of columns by ours, such as {"text": "body", "label": "topic"}.
        query: the SELECT of a sql: source.
        name: the task's name, and the name of the registered model.
        profile: fast (at most 24,000 rows, minutes) or full (all rows).
        backbone: minilm (included, no network), a folder, or a Hugging Face Hub name such as distilbert-base-uncased.
        min_accuracy: the lowest test accuracy that passes the gate, from 0 to 1.
        thresholds: other thresholds of the gate by name, such as min_class_recall and champion_margin.
        max_length: number of tokens at which a text is truncated.
        seed: random seed of the split, the classification head, dropout and the order of the rows.
        experiment: a Katib Experiment as YAML, to search hyperparameters first; empty for no search.
        hyperparameters: values by name, such as learning_rate, as strings; a search overrides them.
        mlflow_tracking_uri: the MLflow server; empty for MLFLOW_TRACKING_URI of the steps' environment.
        checkpoint_root: persistent folder or object storage URI; training that was killed resumes from there.
        num_nodes: nodes for fine-tuning; more than 1 runs a TrainJob, with checkpoint_root in object storage.
        service: the InferenceService to roll the bundle out to; empty for no rollout.
        namespace: the service's namespace; empty for the namespace of the run.
        prometheus: address of the Prometheus with the predictors' metrics; required for a rollout.
        rollout: settings of the canary analysis by name, such as interval and step_weight.
        golden: texts that are sent to both versions before the canary gets any traffic.
        checks: limits of the data by name, such as max_rejected; the run fails beyond one.
        split: how missing splits are drawn, by name: by (random, time or group), column, held_out.
        labels: the classes in their order, as the task has them; empty for those of the data, by name.
        ordinal: whether the labels are steps from the lowest to the highest, so that answers have a score.
        multi_label: whether a text may have any number of labels, also none: joined by | in the data, or as a list.
        behaviour: behavioural tests of the task, as lines of JSON, for data that has none beside it.
        answer: the verb and the field of the plain REST interface, such as {"verb": "analyze", "field": "sentiment"};
            empty for classify and category.
    """
    run = dsl.PIPELINE_JOB_ID_PLACEHOLDER

    collected = collect(
        data=data, columns=columns, query=query, behaviour=behaviour, multi_label=multi_label
    ).set_display_name("Collect").outputs  # fmt: skip
    checked = check(
        name=name, bundle_root=bundle_root, mlflow_tracking_uri=mlflow_tracking_uri, profile=profile, backbone=backbone,
        min_accuracy=min_accuracy, thresholds=thresholds, max_length=max_length, experiment=experiment,
        hyperparameters=hyperparameters, checkpoint_root=checkpoint_root, num_nodes=num_nodes, service=service,
        namespace=namespace, prometheus=prometheus, rollout=rollout, checks=checks, split=split,
        labels=labels, ordinal=ordinal, multi_label=multi_label, answer=answer,
    ).set_display_name("Check")  # fmt: skip
    prepared = prepare(
        collected=collected["collected"], seed=seed, checks=checks, split=split, labels=labels,
        ordinal=ordinal, multi_label=multi_label, pipeline_run=run, mlflow_tracking_uri=mlflow_tracking_uri,
    ).after(checked).set_display_name("Prepare").outputs  # fmt: skip
    dataset = prepared["dataset"]
    # No other step waits for this one.
    inspected = inspect(
        dataset=dataset, seed=seed, pipeline_run=run, mlflow_tracking_uri=mlflow_tracking_uri
    ).set_display_name("Inspect data").outputs  # fmt: skip

    baseline = train_baseline(
        dataset=dataset, profile=profile, seed=seed, pipeline_run=run, mlflow_tracking_uri=mlflow_tracking_uri
    ).set_display_name("Linear baseline").outputs  # fmt: skip
    # This step always runs, and returns at once if there is no experiment: a condition would need a second step that
    # joins its two branches, and kfp's local runner cannot compare strings that contain quotes, as YAML does.
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
        profile=profile, seed=seed, pipeline_run=run, mlflow_tracking_uri=mlflow_tracking_uri, answer=answer,
    ).set_display_name("Export").outputs  # fmt: skip

    evaluated = evaluate(
        dataset=dataset, draft=exported["draft"], baseline=baseline["baseline"], name=name,
        pipeline_run=run, mlflow_tracking_uri=mlflow_tracking_uri,
    ).set_display_name("Evaluate").outputs  # fmt: skip
    decision = gate(
        evaluation=evaluated["evaluation"], min_accuracy=min_accuracy, thresholds=thresholds
    ).set_display_name("Gate").outputs  # fmt: skip
    drawn = report(
        dataset=dataset, checkpoint=tuned["checkpoint"], evaluation=evaluated["evaluation"],
        decision=decision["decision"],
    ).set_display_name("Report").outputs  # fmt: skip
    registered = register(
        bundle=evaluated["bundle"], report=drawn["page"], passed=decision["passed"], bundle_root=bundle_root,
        name=name, pipeline_run=run, reasons=decision["reasons"],
        mlflow_tracking_uri=mlflow_tracking_uri,
    ).set_display_name("Register").outputs  # fmt: skip

    # The exit handler ends the rollout even if the judge fails or is cancelled. KFP allows exit handlers only in the
    # outermost scope, so this one also runs if there is nothing to roll out.
    ended = end_rollout(
        service=service, pipeline_run=run, namespace=namespace, mlflow_tracking_uri=mlflow_tracking_uri
    ).set_display_name("End rollout")
    # Of an output with another name than Output, kfp's local runner finds no value for a condition.
    if_served, if_passed = dsl.If(service != ""), dsl.If(drawn["Output"] == True, name="passed")  # noqa: E712
    with dsl.ExitHandler(ended, name="rollout"), if_served, if_passed:
        begun = start_rollout(
            service=service, bundle_uri=registered["bundle_uri"], pipeline_run=run, namespace=namespace,
            settings=rollout,
        ).set_display_name("Roll out")  # fmt: skip
        judge_rollout(
            service=service, version=begun.output, prometheus=prometheus, pipeline_run=run, namespace=namespace,
            golden=golden, mlflow_tracking_uri=mlflow_tracking_uri,
        ).set_display_name("Judge")  # fmt: skip
    with dsl.If(drawn["Output"] == False, name="refused"):  # noqa: E712
        refuse(reasons=decision["reasons"], version=registered["version"]).set_display_name("Refused")
    return Trained(
        accuracy=evaluated["Output"],
        baseline_accuracy=baseline["Output"],
        data_digest=prepared["Output"],
        precision=exported["Output"],
        passed=decision["passed"],
        reasons=decision["reasons"],
        report=drawn["page"],
        inspection=inspected["page"],
        label_errors=inspected["Output"],
        bundle_uri=registered["bundle_uri"],
        digest=registered["digest"],
        version=registered["version"],
    )
