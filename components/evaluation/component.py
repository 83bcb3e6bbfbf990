"""KFP components of the evaluation stage."""

from typing import NamedTuple

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
    pipeline_run: str,
    mlflow_tracking_uri: str = "",
) -> float:
    """Answer every test row with the bundle, through the code that serves it, and compare with the baseline.

    Args:
        dataset: the prepared data.
        draft: the exported bundle.
        baseline: the baseline's scores and answers.
        bundle: the finished bundle, with test metrics and model card.
        evaluation: all figures as evaluation.json.
        metrics: accuracy and the other test metrics.
        confusion: the confusion matrix; with many classes, only of those that are confused most often.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.

    Returns:
        Test accuracy, a share of 1.
    """
    from pathlib import Path

    import mlflow

    from components.data.dataset import Dataset
    from components.evaluation.evaluate import evaluate, finish_bundle
    from components.evaluation.metrics import by_key, by_name
    from components.evaluation.scores import EVALUATION_FILE
    from components.platform.termination import one_sentence
    from components.platform.tracking import tracked_step
    from components.training.baseline import load_baseline

    with one_sentence(), tracked_step("evaluate", pipeline_run, mlflow_tracking_uri) as step:
        data = Dataset.load(Path(dataset.path))
        result = evaluate(Path(draft.path), data, *load_baseline(Path(baseline.path)))
        finished = finish_bundle(Path(draft.path), result, data, Path(bundle.path))
        step.headline(metrics=by_key(result))
        figures = Path(evaluation.path) / EVALUATION_FILE
        result.save(figures)
        mlflow.log_artifact(str(figures))
    for name, value in by_name(result).items():
        metrics.log_metric(name, value)
    confusion.log_confusion_matrix(*result.matrix())
    bundle.metadata.update(digest=finished.digest, accuracy=result.accuracy)
    return result.accuracy


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def gate(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    min_accuracy: float = 0.9,
) -> NamedTuple("Decision", passed=bool, reasons=list[str]):  # type: ignore[valid-type]
    """Decide whether the bundle may become the champion, and draw the report.

    Args:
        dataset: the prepared data.
        checkpoint: the fine-tuned model, for its training history.
        evaluation: the test's figures.
        report: decision, figures, confusion matrix, curves and confident mistakes on one page.
        min_accuracy: the least test accuracy, a share of 1.

    Returns:
        passed, and the checks in words.
    """
    import json
    from collections import namedtuple
    from pathlib import Path

    from components.data.dataset import Dataset
    from components.evaluation.gate import gate
    from components.evaluation.report import render_report
    from components.evaluation.scores import EVALUATION_FILE, Evaluation
    from components.platform.progress import say
    from components.platform.termination import one_sentence
    from components.training.recipe import HISTORY_FILE

    with one_sentence():
        result = Evaluation.load(Path(evaluation.path) / EVALUATION_FILE)
        decision = gate(result, min_accuracy)
        training = json.loads((Path(checkpoint.path) / HISTORY_FILE).read_text())
        page = render_report(result, decision, training, Dataset.load(Path(dataset.path)).report)
        Path(report.path).write_text(page, encoding="utf-8")
    for reason in decision.reasons:
        say(reason)
    say("gate passed" if decision.passed else "gate closed")
    Decision = namedtuple("Decision", ["passed", "reasons"])
    return Decision(decision.passed, decision.reasons)
