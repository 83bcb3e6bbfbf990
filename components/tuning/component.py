"""KFP component of the tuning stage."""

from typing import Dict  # noqa: UP035 - KFP reads typing.Dict in signatures

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def tune(
    dataset: dsl.Input[dsl.Dataset],
    pipeline_run: str,
    experiment: str = "",
    hyperparameters: Dict[str, str] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
    profile: str = "fast",
    backbone: str = "minilm",
    max_length: int = 128,
    seed: int = 42,
    namespace: str = "",
    timeout_seconds: int = 86400,
    mlflow_tracking_uri: str = "",
) -> Dict[str, str]:  # noqa: UP006
    """Search hyper-parameters with Katib; without an experiment hand on those that were given.

    The Experiment is posted, followed, and deleted at the end, whatever the end.

    Args:
        dataset: the prepared data; trials read it at its address.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run.
        experiment: a Katib Experiment as YAML, or empty for no search.
        hyperparameters: values that hold without a search, and for what the search leaves open.
        profile: fast or full, as the model will be trained.
        backbone: the encoder the trials fine-tune.
        max_length: tokens a text is cut at.
        seed: fixes the trials' rows, initial heads and dropout.
        namespace: where the trials run; empty for the one that the experiment names, or else the step's own.
        timeout_seconds: the longest the search may take.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.

    Returns:
        Hyper-parameters by name, numbers as text.
    """
    given = {name: str(value) for name, value in hyperparameters.items()}
    if not experiment:
        return given

    import mlflow

    from components.platform.kubernetes import connect
    from components.platform.progress import say
    from components.platform.termination import one_sentence
    from components.platform.tracking import tracked_step
    from components.training.job import TrainingJob
    from components.tuning.katib import namespace_of, search_on_cluster, with_options
    from components.tuning.validation import parse_experiment

    with one_sentence(), tracked_step("tune", pipeline_run, mlflow_tracking_uri, system_metrics=False) as step:
        job = TrainingJob(dataset.uri, backbone, profile, max_length, seed)
        document = with_options(parse_experiment(experiment), job.to_options())
        cluster = connect(namespace or namespace_of(document))
        outcome = search_on_cluster(cluster, document, timeout_seconds, run=pipeline_run)
        mlflow.log_params(outcome.assignments)
        mlflow.log_metrics(dict(outcome.metrics))
        step.headline(tags={"best_trial": outcome.best_trial})
    say(f"best of the search: {outcome.assignments}")
    return {**given, **outcome.assignments}
