"""KFP components of a round of monitoring: where it begins, what it may train on, and what it decides."""

from typing import Dict, List, NamedTuple  # noqa: UP035 - KFP reads these in signatures

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def current(
    served: dsl.Output[dsl.Model],
    dataset: dsl.Output[dsl.Dataset],
    log_url: str,
    model: str,
    data: str,
    bundle: str = "",
    name: str = "",
    mlflow_tracking_uri: str = "",
) -> None:
    """Fetch the bundle in service and the dataset that the next training enlarges.

    Args:
        served: the bundle.
        dataset: the prepared dataset.
        log_url: folder or URI of the prediction log.
        model: the model's name in the log.
        data: address of the dataset that the first model was trained on.
        bundle: address of the bundle; empty for that of the champion.
        name: the registered model; empty for the model's name in the log.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.
    """
    from pathlib import Path

    from components.monitoring.current import fetch_bundle, fetch_dataset
    from components.platform.termination import one_sentence

    with one_sentence():
        fetch_bundle(bundle, name or model, mlflow_tracking_uri, Path(served.path))
        fetch_dataset(data, log_url, model, Path(dataset.path))


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def join_labels(
    dataset: dsl.Input[dsl.Dataset],
    enlarged: dsl.Output[dsl.Dataset],
    log_url: str,
    model: str,
    new_labels: bool = False,
    seed: int = 42,
) -> NamedTuple("Rows", added=int, digest=str):  # type: ignore[valid-type]
    """Join feedback with logged texts, and add the rows to the dataset, whose test split stays as it is.

    Args:
        dataset: the prepared dataset that is there.
        enlarged: the dataset with the rows.
        log_url: folder or URI of the prediction log.
        model: the model's name in the log.
        new_labels: whether labels may be new; else such rows are left out and counted.
        seed: fixes which rows go to validation.

    Returns:
        The number of rows added, and the SHA-256 of the enlarged dataset's rows.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.monitoring.labelled import enlarge, join
    from components.monitoring.log.reading import read_feedback, read_predictions
    from components.platform.progress import say
    from components.platform.termination import one_sentence

    with one_sentence():
        labelled = join(read_predictions(log_url, model), read_feedback(log_url, model))
        found = enlarge(Path(dataset.path), labelled, Path(enlarged.path), seed, new_labels)
    say(f"{found.added:,} new labelled rows, of {labelled.counts.get('feedback', 0):,} pieces of feedback")
    enlarged.metadata.update(sha256=found.digest, added=found.added, feedback=labelled.counts, left_out=found.left_out)
    Rows = namedtuple("Rows", ["added", "digest"])
    return Rows(found.added, found.digest)


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def decide(
    verdict: dsl.Input[dsl.Artifact],
    decision: dsl.Output[dsl.Artifact],
    log_url: str,
    model: str,
    added: int,
    digest: str,
    guards: Dict[str, float] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
    alert: str = "",
) -> str:
    """Decide whether to stop, to ask for labels, or to retrain.

    Args:
        verdict: what the drift step found.
        decision: the decision as JSON.
        log_url: folder or URI of the prediction log, with the trainings that were started before.
        model: the model's name in the log.
        added: new labelled rows.
        digest: SHA-256 of the enlarged dataset's rows.
        guards: limits by name: cooldown_hours, min_new_rows, max_a_week.
        alert: the alert that asks for an action, in words; empty for a scheduled round.

    Returns:
        stop, label or retrain; the reasons are in the decision.
    """
    import json
    import time
    from pathlib import Path

    from components.monitoring.decision import Guards, decide, seen_in
    from components.monitoring.drift.verdict import VERDICT_FILE
    from components.monitoring.trainings import read_trainings
    from components.platform.progress import say
    from components.platform.termination import one_sentence

    with one_sentence():
        seen = seen_in(json.loads((Path(verdict.path) / VERDICT_FILE).read_text()))
        past = read_trainings(log_url, model)
        made = decide(seen, int(added), digest, past, Guards.named(guards), time.time(), alert)
    made.save(Path(decision.path))
    say(f"{made.answer}: {'; '.join(made.reasons)}")
    decision.metadata.update(answer=made.answer, reasons=made.reasons)
    # The only output: kfp's local runner resolves no others in the condition of a branch.
    return made.answer


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def ask_for_labels(
    served: dsl.Input[dsl.Model],
    enlarged: dsl.Input[dsl.Dataset],
    verdict: dsl.Input[dsl.Artifact],
    tasks: dsl.Output[dsl.Dataset],
    budget: int = 200,
    seed: int = 42,
) -> int:
    """Pick the rows of the drifted region that people should label, as `pigeonhole label suggest` does.

    Args:
        served: the bundle that answers the rows.
        enlarged: the dataset with all feedback so far, whose texts are not asked again.
        verdict: what the drift step found, with the texts that are most unlike the reference.
        tasks: tasks.json for Label Studio, and its labeling config tasks.xml.
        budget: how many rows to pick.
        seed: fixes what is drawn at random.

    Returns:
        The number of tasks; 0 where there is no text to ask.
    """
    from pathlib import Path

    from components.monitoring.asking import ask
    from components.monitoring.drift.steps import UNLIKE_FILE
    from components.platform.termination import one_sentence

    folder, region = Path(tasks.path), Path(verdict.path) / UNLIKE_FILE
    with one_sentence():
        folder.mkdir(parents=True, exist_ok=True)
        report = ask(Path(served.path), Path(enlarged.path), region, folder, int(budget), seed)
    tasks.metadata.update(report)
    return int(report["asked"])


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def start_training(
    enlarged: dsl.Input[dsl.Dataset],
    decision: dsl.Input[dsl.Artifact],
    outcome: dsl.Output[dsl.Artifact],
    log_url: str,
    model: str,
    digest: str,
    data_root: str,
    name: str = "",
    results: str = "",
    training: List[str] = [],  # noqa: B006, UP006 - KFP writes the default into the IR
    host: str = "",
    namespace: str = "",
    service_account: str = "",
) -> str:
    """Start a training on the enlarged data.

    Args:
        enlarged: the dataset.
        decision: why it is started.
        outcome: the training's record as JSON, and what it made.
        log_url: folder or URI of the prediction log, beside which trainings are recorded.
        model: the model's name in the log.
        digest: SHA-256 of the dataset's rows.
        data_root: folder or URI under which the dataset is kept by its digest.
        name: the registered model; empty for the model's name in the log.
        results: the folder of results, if the training runs in this step; empty to submit it to Kubeflow.
        training: parameters of the training pipeline, NAME=VALUE each.
        host: address of Kubeflow Pipelines.
        namespace: the namespace of the run; empty for that of the pod.
        service_account: what the run's steps run as; empty for the installation's default.

    Returns:
        submitted, passed or closed.
    """
    import json
    from pathlib import Path

    from components.monitoring.retraining import Place, train
    from components.platform.termination import one_sentence

    with one_sentence():
        place = Place(results, host, namespace, service_account)
        given = [f"name={name or model}", *training]
        cause = "; ".join(json.loads(Path(decision.path).read_text())["reasons"])
        found = train(Path(enlarged.path), digest, log_url, model, data_root, place, cause, given)
    Path(outcome.path).write_text(json.dumps(found, ensure_ascii=False, indent=2))
    return str(found["state"])
