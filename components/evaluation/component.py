"""KFP components of the evaluation stage."""

from typing import Dict, List, NamedTuple  # noqa: UP035 - KFP reads these in signatures

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def evaluate(
    dataset: dsl.Input[dsl.Dataset],
    draft: dsl.Input[dsl.Model],
    baseline: dsl.Input[dsl.Artifact],
    bundle: dsl.Output[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    predictions: dsl.Output[dsl.Dataset],
    name: str,
    pipeline_run: str,
    mlflow_tracking_uri: str = "",
) -> float:
    """Answer every test row with the bundle, the champion and the baseline, through the code that serves them.

    The champion is tested anew on today's test rows. Slices of the test and behavioural tests are scored, too.

    Args:
        dataset: the prepared data.
        draft: the exported bundle.
        baseline: the baseline's scores and answers.
        bundle: the finished bundle, with test metrics and model card.
        evaluation: all figures as evaluation.json.
        metrics: accuracy and the other test metrics; of multi-label data micro F1 first.
        confusion: the confusion matrix; with many classes, only of those that are confused most often; of multi-label
            data none, since a text has no one true class.
        predictions: the answers of the three for each test row, as predictions.parquet.
        name: the registered model, whose version with the alias champion is the model in service.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.

    Returns:
        Test accuracy, a share of 1; of multi-label data, that of texts with all labels right.
    """
    import math
    import tempfile
    from pathlib import Path

    import mlflow

    from components.data.behaviour.lines import BEHAVIOUR_FILE
    from components.data.dataset import Dataset
    from components.evaluation.champion import fetch_champion
    from components.evaluation.evaluate import evaluate, finish_bundle
    from components.evaluation.metrics import by_key, by_name
    from components.evaluation.scores import EVALUATION_FILE
    from components.platform.termination import one_sentence
    from components.platform.tracking import tracked_step
    from components.training.baseline import load_baseline

    with (
        one_sentence(),
        tracked_step("evaluate", pipeline_run, mlflow_tracking_uri) as step,
        tempfile.TemporaryDirectory() as fetched,
    ):
        data = Dataset.load(Path(dataset.path))
        behaviour = Path(dataset.path) / BEHAVIOUR_FILE
        result, answers = evaluate(
            Path(draft.path), data, *load_baseline(Path(baseline.path)),
            champion=fetch_champion(step.client, name, Path(fetched)),
            behaviour=behaviour if behaviour.exists() else None,
        )  # fmt: skip
        finished = finish_bundle(Path(draft.path), result, data, Path(bundle.path))
        step.headline(metrics=by_key(result))
        figures = Path(evaluation.path) / EVALUATION_FILE
        result.save(figures)
        Path(predictions.path).mkdir(parents=True, exist_ok=True)
        answers.to_parquet(Path(predictions.path) / "predictions.parquet", index=False)
        for file in (figures, Path(predictions.path) / "predictions.parquet"):
            mlflow.log_artifact(str(file))
    for metric, value in by_name(result).items():
        if math.isfinite(value):
            metrics.log_metric(metric, float(value))
    if result.score.sets is None:
        confusion.log_confusion_matrix(*result.matrix())
    bundle.metadata.update(digest=finished.digest, accuracy=result.score.accuracy)
    return result.score.accuracy


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def gate(
    evaluation: dsl.Input[dsl.Artifact],
    decision: dsl.Output[dsl.Artifact],
    min_accuracy: float = 0.9,
    thresholds: Dict[str, float] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
) -> NamedTuple("Decision", passed=bool, reasons=list[str]):  # type: ignore[valid-type]
    """Decide by tests whether the bundle may take the champion's place.

    Args:
        evaluation: the test's figures.
        decision: each check with its figure, threshold and p-value, as decision.json.
        min_accuracy: the least test accuracy, a share of 1.
        thresholds: other thresholds by name, such as min_class_recall, champion_margin and max_calibration_error; of
            multi-label data min_micro_f1 in place of min_accuracy.

    Returns:
        passed, and the checks in words, those that failed first.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.evaluation.gate import DECISION_FILE, gate
    from components.evaluation.scores import EVALUATION_FILE, Evaluation
    from components.evaluation.thresholds import Thresholds
    from components.platform.progress import say
    from components.platform.termination import one_sentence

    with one_sentence():
        result = Evaluation.load(Path(evaluation.path) / EVALUATION_FILE)
        decided = gate(result, Thresholds.named({"min_accuracy": min_accuracy, **thresholds}))
        decided.save(Path(decision.path) / DECISION_FILE)
    for reason in decided.reasons:
        say(reason)
    say("gate passed" if decided.passed else "gate closed")
    decision.metadata.update(passed=decided.passed)
    Decision = namedtuple("Decision", ["passed", "reasons"])
    return Decision(decided.passed, decided.reasons)


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def refuse(reasons: List[str], version: str) -> str:  # noqa: UP006
    """Say why the bundle does not go into service. It is in the registry, without an alias.

    Args:
        reasons: the checks of the gate in words, those that failed first.
        version: its number in the registry.

    Returns:
        The first reason.
    """
    from components.platform.progress import say

    say(f"version {version} is refused")
    for reason in reasons:
        say(reason)
    return reasons[0]


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def report(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    decision: dsl.Input[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    text: dsl.Output[dsl.Markdown],
) -> bool:
    """Draw the report: the gate's decision and what it rests on.

    Args:
        dataset: the prepared data.
        checkpoint: the fine-tuned model, for its training history.
        evaluation: the test's figures.
        decision: what the gate decided.
        page: verdict, figures, reliability, classes, slices, mistakes, curves and data on one page without a script.
        text: the same in Markdown.

    Returns:
        Whether the bundle passed, which the pipeline's branches follow.
    """
    import json
    from pathlib import Path

    from components.data.dataset import Dataset
    from components.evaluation.gate import DECISION_FILE, GateDecision
    from components.evaluation.reporting.report import render_report
    from components.evaluation.scores import EVALUATION_FILE, Evaluation
    from components.platform.termination import one_sentence
    from components.training.recipe import HISTORY_FILE

    with one_sentence():
        decided = GateDecision.load(Path(decision.path) / DECISION_FILE)
        drawn = render_report(
            Evaluation.load(Path(evaluation.path) / EVALUATION_FILE),
            decided,
            json.loads((Path(checkpoint.path) / HISTORY_FILE).read_text()),
            Dataset.load(Path(dataset.path)).report,
        )
        Path(page.path).write_text(drawn.html, encoding="utf-8")
        Path(text.path).write_text(drawn.markdown, encoding="utf-8")
    return decided.passed
