"""The search on a cluster: posts the Experiment to Katib, waits for it, reads the best trial and deletes it."""

import hashlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any

from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from components.platform.custom_objects import Gone, Kind, Posted, posted
from components.platform.kubernetes import REQUEST_SECONDS, Cluster, message_of, refusal_of
from components.platform.progress import say
from components.platform.storage import is_remote
from components.tuning.experiment import Experiment, Outcome, primary_container
from components.tuning.validation import check_experiment
from predictor.errors import InputError

_GROUP, _PLURAL = "kubeflow.org", "experiments"
_KIND = Kind("Katib experiment", _GROUP, "v1beta1", _PLURAL)
_DATA_VOLUME = "dataset"
_POD_SECURITY_LABEL = "pod-security.kubernetes.io/enforce"
# The fields of an Experiment's status that are added up for each of our counts.
_COUNTS = {
    "succeeded": ("trialsSucceeded",),
    "stopped": ("trialsEarlyStopped",),
    "failed": ("trialsFailed", "trialMetricsUnavailable", "trialsKilled"),
}


class SearchFailed(InputError):
    """Katib accepted the search, and it ended without a result."""


def with_options(experiment: Experiment, options: Mapping[str, str]) -> dict[str, Any]:
    """Return the Experiment's document with other options of the trial's command.

    Data in object storage needs no volume, so the template's is removed: a pod whose claim does not exist never starts.

    Args:
        experiment: the search.
        options: from flag to value; empty values are left as the file has them. `--data` is the address or mounted
            folder of the dataset artifact.

    Raises:
        InputError: white space in a value, since Katib's metrics collector joins the command to one line for a shell.
    """
    for flag, value in options.items():
        if value and value.split() != [value]:
            raise InputError(f"{flag} '{value}' has white space, which Katib does not keep together: rename it")
    document = experiment.with_arguments(options)
    if is_remote(options.get("--data", "")):
        pod = document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
        container = primary_container(document)
        for holder, key in ((pod, "volumes"), (container, "volumeMounts")):
            holder[key] = [part for part in holder.get(key) or [] if part["name"] != _DATA_VOLUME]
    return document


def namespace_of(document: Mapping[str, Any]) -> str:
    """Return the namespace that an Experiment names, empty where it names none."""
    return str(document["metadata"].get("namespace") or "")


def search_on_cluster(
    cluster: Cluster, document: Mapping[str, Any], timeout: float, interval: float = 10.0, run: str = ""
) -> Outcome:
    """Post an Experiment, follow it to its end, and delete it, also when something goes wrong.

    Args:
        cluster: where.
        document: the Experiment; its name gets a unique suffix.
        timeout: the most seconds to wait.
        interval: seconds between two requests.
        run: id of the pipeline run, by which a step that is tried again finds the search that it posted before; empty
            for a search that cannot be continued.

    Raises:
        InputError: the cluster refuses, has no Katib, or would refuse Katib's own pods in the namespace.
        SearchFailed: Katib says that the search failed, no trial reported the objective, or the time is up.
    """
    experiment = check_experiment(document)
    _check_pod_security(cluster, experiment)
    body = deepcopy(dict(document))
    identity = json.dumps([run or uuid.uuid4().hex, body], sort_keys=True)
    name = f"{experiment.name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
    body["metadata"] = {**body["metadata"], "name": name, "namespace": cluster.namespace}
    try:
        with _clear_errors(cluster), posted(cluster, _KIND, body, interval) as search:
            say(f"{search}, at most {experiment.max_trials} trials")
            return _wait_for_end(search, experiment, time.monotonic() + timeout, timeout)
    except Gone as error:
        raise SearchFailed(f"Katib experiment {name} was deleted while it ran: start the search again") from error


def _check_pod_security(cluster: Cluster, experiment: Experiment) -> None:
    """Check that the namespace admits Katib's own pods: where it does not, Katib waits for them without a message."""
    try:
        found = CoreV1Api(cluster.api.api_client).read_namespace(cluster.namespace, _request_timeout=REQUEST_SECONDS)
    except (ApiException, HTTPError):
        return  # not permitted, or the server is unavailable: posting the experiment gives the error
    if (found.metadata.labels or {}).get(_POD_SECURITY_LABEL) != "restricted":
        return
    refuses = f"namespace {cluster.namespace} enforces the restricted pod security standard, which refuses"
    if experiment.early_stopping:
        raise InputError(
            f"{refuses} the pod of Katib's early stopping: search in a namespace that enforces baseline, such as "
            "pigeonhole-search"
        )
    say(f"{refuses} Katib's own pods unless its configuration gives them a security context: no trial starts then")


def _wait_for_end(search: Posted, experiment: Experiment, deadline: float, timeout: float) -> Outcome:
    shown, line, name = "", "not seen yet", search.name
    while True:
        found = search.look()
        if found is not None:
            status = found.get("status") or {}
            line = _progress(experiment, status)
            if line != shown:
                say(line)
                shown = line
            conditions = {c["type"]: c for c in status.get("conditions") or [] if c.get("status") == "True"}
            if "Failed" in conditions:
                raise SearchFailed(
                    f"Katib experiment {name} failed ({conditions['Failed'].get('message', 'no message')}): look at "
                    "its trials' logs"
                )
            if "Succeeded" in conditions:
                return _outcome(experiment, name, status, str(conditions["Succeeded"].get("message", "")))
        if time.monotonic() > deadline:
            raise SearchFailed(
                f"Katib experiment {name} is not done after {timeout:g} seconds ({line}): give it more time, or lower "
                "maxTrialCount"
            )
        time.sleep(search.pause)


def _progress(experiment: Experiment, status: Mapping[str, Any]) -> str:
    counts = _counts(status)
    line = f"{sum(counts.values())}/{experiment.max_trials} trials ended, {status.get('trialsRunning', 0)} run"
    values = _metrics(experiment, status)
    metric = experiment.objective.metric
    return line + (f", best {metric} {values[metric]:.4f}" if metric in values else "")


def _counts(status: Mapping[str, Any]) -> dict[str, int]:
    return {ours: sum(int(status.get(name) or 0) for name in names) for ours, names in _COUNTS.items()}


def _metrics(experiment: Experiment, status: Mapping[str, Any]) -> dict[str, float]:
    """Return the best trial's metrics, each by its strategy."""
    best = status.get("currentOptimalTrial") or {}
    values = {}
    for metric in (best.get("observation") or {}).get("metrics") or []:
        strategy = experiment.objective.strategies.get(metric["name"], "latest")
        with suppress(ValueError, TypeError):  # "unavailable"
            values[metric["name"]] = float(metric.get(strategy, metric.get("latest")))
    return values


def _outcome(experiment: Experiment, name: str, status: Mapping[str, Any], reason: str) -> Outcome:
    best = status.get("currentOptimalTrial") or {}
    assignments = {item["name"]: str(item["value"]) for item in best.get("parameterAssignments") or []}
    if not assignments:
        raise SearchFailed(
            f"Katib experiment {name} ended without a best trial: look whether its trials print "
            f"{experiment.objective.metric}=NUMBER and whether the namespace has the label "
            "katib.kubeflow.org/metrics-collector-injection=enabled"
        )
    values = _metrics(experiment, status)
    objective = values.get(experiment.objective.metric)
    return Outcome(True, reason, str(best.get("bestTrialName", "")), objective, values, assignments, _counts(status))


@contextmanager
def _clear_errors(cluster: Cluster) -> Iterator[None]:
    """Turn the API server's refusals into clear errors; those that may be temporary are raised as they are."""
    try:
        yield
    except ApiException as error:
        message = message_of(error)
        where = f"namespace {cluster.namespace}"
        if refused := refusal_of(error):
            raise InputError(f"the cluster refuses the experiment ({refused}): fix what it says") from None
        if error.status in (401, 403):
            raise InputError(
                f"the cluster forbids it in {where} ({message}): let this account create, get and delete experiments "
                f"of {_GROUP} there"
            ) from None
        if error.status == 404 and "namespaces" in message:
            raise InputError(f"{where} does not exist on the cluster: create it, or name another") from None
        if error.status == 404 and not _is_about_one_object(error):
            raise InputError(
                f"the cluster has no Katib ({_PLURAL}.{_GROUP} is not installed): install it, or search on one machine "
                "with pigeonhole tune --local"
            ) from None
        if error.status in (400, 422):
            raise InputError(f"Katib refuses the experiment ({message}): fix the file") from None
        raise


def _is_about_one_object(error: ApiException) -> bool:
    """Say whether a 404 is about one experiment, and not about the resource type."""
    try:
        return bool(json.loads(error.body).get("details", {}).get("name"))
    except (ValueError, TypeError, AttributeError):
        return False
