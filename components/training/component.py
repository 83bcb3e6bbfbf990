"""KFP components of the training stage."""

from typing import Dict  # noqa: UP035 - KFP reads typing.Dict in signatures

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def train_baseline(
    dataset: dsl.Input[dsl.Dataset],
    baseline: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    pipeline_run: str,
    profile: str = "fast",
    seed: int = 42,
    mlflow_tracking_uri: str = "",
) -> float:
    """Train the linear baseline (TF-IDF and a linear SVM) that the transformer has to beat.

    Args:
        dataset: the prepared data.
        baseline: its scores and its answers on the test rows.
        metrics: validation and test accuracy.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run.
        profile: fast or full; the baseline gets as many rows as the transformer.
        seed: fixes the rows and the solver.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.

    Returns:
        Test accuracy, a share of 1.
    """
    from pathlib import Path

    import mlflow

    from components.data.dataset import Dataset
    from components.platform.termination import one_sentence
    from components.platform.tracking import tracked_step
    from components.training.baseline import mean_and_interval, train_baseline
    from components.training.recipe import training_rows

    with one_sentence(), tracked_step("baseline", pipeline_run, mlflow_tracking_uri) as step:
        result = train_baseline(Dataset.load(Path(dataset.path)), Path(baseline.path), training_rows(profile), seed)
        mlflow.log_params({"features": result.features, "train_rows": result.train_rows})
        mlflow.log_metric("baseline_validation_accuracy", result.validation_accuracy)
        if result.fold_accuracies:
            names = ("baseline_fold_accuracy", "baseline_fold_accuracy_low", "baseline_fold_accuracy_high")
            mlflow.log_metrics(dict(zip(names, mean_and_interval(result.fold_accuracies), strict=True)))
        step.headline(metrics={"baseline_accuracy": result.test_accuracy})
    metrics.log_metric("validation_accuracy", result.validation_accuracy)
    metrics.log_metric("test_accuracy", result.test_accuracy)
    return result.test_accuracy


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def fine_tune(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    pipeline_run: str,
    profile: str = "fast",
    backbone: str = "minilm",
    max_length: int = 128,
    seed: int = 42,
    hyperparameters: Dict[str, str] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
    mlflow_tracking_uri: str = "",
    checkpoint_root: str = "",
    num_nodes: int = 1,
) -> float:
    """Train a classifier on a pretrained encoder, in the way that suits the number of labels.

    With fewer than 32 labels a class, and at most 80 classes: contrastive few-shot. Below 100: a head on frozen
    embeddings. With more: fine-tuning, whose best epoch is kept.

    Args:
        dataset: the prepared data.
        checkpoint: weights, tokenizer and training history.
        metrics: the best validation accuracy and the speed.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run.
        profile: fast (at most 24,000 rows, minutes) or full (all rows).
        backbone: minilm (embedded, no network), a folder, or a hub name such as distilbert-base-uncased.
        max_length: tokens a text is cut at.
        seed: fixes initial head, dropout and order of the rows.
        hyperparameters: set by name, numbers as text; the recipe's for those that are missing.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.
        checkpoint_root: folder or object storage URI that outlives the pod; a run that was killed goes on from there.
        num_nodes: machines that train together; with more than one this step posts a TrainJob and waits for it.

    Returns:
        The best validation accuracy, a share of 1.
    """
    from pathlib import Path

    from components.platform.termination import one_sentence
    from components.platform.tracking import tracked_step
    from components.training.job import TrainingJob
    from components.training.mlflow_history import log_epoch

    here = num_nodes == 1
    with one_sentence(), tracked_step("fine-tune", pipeline_run, mlflow_tracking_uri, system_metrics=here) as step:
        values = {name: str(value) for name, value in hyperparameters.items()}
        job = TrainingJob(dataset.path, backbone, profile, max_length, seed, values, checkpoint_root)
        loaded = job.load(method=None)
        step.headline(loaded.parameters)
        out = Path(checkpoint.path)
        if here or loaded.recipe.method != "full":
            history = loaded.train_model(out, log_epoch)
        else:
            from components.training.distributed.trainjob import Machines, train_on_cluster

            history = train_on_cluster(Machines(num_nodes), job, out, pipeline_run)
            for row in history:
                log_epoch(row)
        best = max(history, key=lambda row: row.rank)
        step.headline(metrics={"best_validation_accuracy": best.validation_accuracy})
    metrics.log_metric("validation_accuracy", best.validation_accuracy)
    metrics.log_metric("texts_per_second", best.texts_per_second)
    checkpoint.metadata.update(backbone=backbone, epoch=best.epoch, classes=len(loaded.dataset.labels))
    return best.validation_accuracy


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def export(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Input[dsl.Model],
    baseline_accuracy: float,
    draft: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    pipeline_run: str,
    task: str = "text-classification",
    profile: str = "fast",
    seed: int = 42,
    mlflow_tracking_uri: str = "",
    answer: Dict[str, str] = {},  # noqa: B006, UP006
) -> str:
    """Export to ONNX fp32 and int8, score both on the validation split, choose one and calibrate it.

    A cascade is added where it is worth it: a linear model that answers the texts it is sure of.

    Args:
        dataset: the prepared data.
        checkpoint: the fine-tuned model.
        baseline_accuracy: the baseline's test accuracy, kept with the model.
        draft: the model bundle, before its test.
        metrics: accuracy of each precision, agreement with PyTorch, calibration.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run.
        task: the task's name.
        profile: fast or full; rows that the model was not trained on help to set the cascade's threshold.
        seed: which rows it was trained on.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.
        answer: the verb and the field of the plain REST interface; empty for the usual ones.

    Returns:
        The precision that will be served: int8 or fp32.
    """
    from pathlib import Path

    import mlflow

    from components.data.dataset import Dataset
    from components.platform.termination import one_sentence
    from components.platform.tracking import tracked_step
    from components.training.export.export import export
    from components.training.recipe import training_rows
    from predictor.naming import AnswerNames

    with one_sentence(), tracked_step("export", pipeline_run, mlflow_tracking_uri) as step:
        data, names = Dataset.load(Path(dataset.path)), AnswerNames.named(answer)
        trained_on = data.train.sample(training_rows(profile), seed)
        bundle = export(Path(checkpoint.path), data, trained_on, baseline_accuracy, task, Path(draft.path), names)
        mlflow.log_metrics(bundle.spec.metrics)
        step.headline(tags={"precision": bundle.spec.precision, "cascade": "yes" if bundle.spec.cascade else "no"})
    for name, value in bundle.spec.metrics.items():
        metrics.log_metric(name, value)
    draft.metadata.update(digest=bundle.digest, precision=bundle.spec.precision)
    return bundle.spec.precision
