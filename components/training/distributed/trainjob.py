"""Training on several machines of a cluster: a TrainJob of Kubeflow Trainer is posted, watched and deleted.

The machines share no disk with the step that waits for them, nor with each other. They share object storage, an fsspec
URI: the step uploads the data, each container downloads it, and the first one uploads the model. They need three things
from the platform:

- the driver for that storage (s3fs, gcsfs, adlfs) in the steps' image, and credentials: AWS_ACCESS_KEY_ID and
  AWS_SECRET_ACCESS_KEY in a Secret named `pigeonhole-storage`, or a service account that needs no keys;
- the backbone: the embedded one, a folder in the image, or a hub that the machines can reach;
- permission for the step's service account to create, get and delete `trainjobs.trainer.kubeflow.org`.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from components import IMAGE_VARIABLE, STEPS_IMAGE
from components.data.dataset import REPORT_FILE
from components.platform.custom_objects import LABELS, Kind, Posted, posted, reason_of
from components.platform.kubernetes import Cluster, refusal_of
from components.platform.progress import say
from components.platform.storage import download, is_remote, read_text, remove, upload
from components.training.distributed.train_worker import FAILURE_FILE
from components.training.job import TrainingJob
from components.training.recipe import HISTORY_FILE, Epoch
from predictor.errors import InputError

GROUP, VERSION = "trainer.kubeflow.org", "v1alpha1"
_KIND = Kind("TrainJob", GROUP, VERSION, "trainjobs")
RUNTIME = "torch-distributed"
SECRET = "pigeonhole-storage"
# The one replicated job of that runtime, and its container.
_NODE = "node"
# What the restricted pod security standard requires and the runtime lacks.
_POD_SECURITY = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
# Settings of the storage that are no secrets, so they are copied.
_COPIED = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_POD_LABEL = "jobset.sigs.k8s.io/jobset-name"


@dataclass(frozen=True)
class Machines:
    """How many machines train, and the resources of each."""

    nodes: int
    gpus: int = 0
    """GPUs of each machine, one process each; without any, a machine runs one process."""
    resources: Mapping[str, str] = field(default_factory=lambda: {"cpu": "4", "memory": "8Gi"})


def train_job(name: str, image: str, machines: Machines, job: TrainingJob, out: str) -> dict[str, Any]:
    """Return the TrainJob whose containers run `pigeonhole train-worker`.

    Args:
        name: of the object; its pods are NAME-node-0-0, NAME-node-0-1 and so on.
        image: the steps' container image.
        machines: how many, how large.
        job: what to train; its data and checkpoints are in object storage.
        out: URI of the folder that gets the model.
    """
    resources = {**machines.resources, **({"nvidia.com/gpu": str(machines.gpus)} if machines.gpus else {})}
    env: list[dict[str, Any]] = [{"name": key, "value": os.environ[key]} for key in _COPIED if key in os.environ]
    for key in _KEYS:
        reference = {"name": SECRET, "key": key, "optional": True}
        env.append({"name": key, "valueFrom": {"secretKeyRef": reference}})
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {"name": name, "labels": dict(LABELS)},
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": RUNTIME},
            "trainer": {
                "image": image,
                # Trainer's torch plugin sets PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR and more, which torchrun reads.
                "command": ["torchrun", "--no-python", "pigeonhole", "train-worker"],
                "args": [f"{flag}={value}" for flag, value in {**job.to_options(), "--out": out}.items()],
                "numNodes": machines.nodes,
                "numProcPerNode": max(1, machines.gpus),
                "env": env,
                # Both: without requests Trainer 2.3 takes numProcPerNode for 1.
                "resourcesPerNode": {"requests": resources, "limits": resources},
            },
            "runtimePatches": [_security()],
        },
    }


def _security() -> dict[str, Any]:
    """Return the runtime patch with a security context for the pods; Trainer wants a domain in the manager's name."""
    pod = {
        "securityContext": _POD_SECURITY,
        "containers": [{"name": _NODE, "securityContext": _CONTAINER_SECURITY}],
    }
    job = {"name": _NODE, "template": {"spec": {"template": {"spec": pod}}}}
    return {
        "manager": "pigeonhole/fine-tune",
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}},
    }


def train_on_cluster(machines: Machines, job: TrainingJob, out: Path, run: str) -> list[Epoch]:
    """Fine-tune on several machines and return the training history.

    Args:
        machines: how many, how large.
        job: its data is a folder of this machine, its checkpoints are in the object storage that all machines share.
        out: folder to put the model into.
        run: id of the pipeline run; a step that is tried again finds the TrainJob that it posted before.

    Raises:
        InputError: there is no cluster or no shared storage, or the job failed; one sentence says why.
    """
    if not is_remote(job.checkpoints):
        raise InputError(
            f"num_nodes is {machines.nodes}, but checkpoint_root '{job.checkpoints}' is no place that machines share: "
            "give the pipeline a URI such as s3://bucket/checkpoints, or train with num_nodes 1"
        )
    api, namespace = _cluster(machines)
    identity = json.dumps([run, machines.nodes, replace(job, data="").to_options()], sort_keys=True)
    name = f"pigeonhole-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"
    place = f"{job.checkpoints.rstrip('/')}/{name}"
    image = os.environ.get(IMAGE_VARIABLE, STEPS_IMAGE)
    body = train_job(name, image, machines, replace(job, data=f"{place}/data"), f"{place}/out")
    try:
        if not read_text(f"{place}/out/{HISTORY_FILE}"):  # else an earlier attempt has trained it
            if not read_text(f"{place}/data/{REPORT_FILE}"):
                upload(Path(job.data), f"{place}/data", last=REPORT_FILE)
            run_to_end(api, namespace, body, failure=lambda: read_text(f"{place}/out/{FAILURE_FILE}"))
    except BaseException:
        _remove_leftovers(place)
        raise
    download(f"{place}/out", out)  # where this fails, the model stays there for the next attempt
    _remove_leftovers(place)
    return [Epoch(**row) for row in json.loads((out / HISTORY_FILE).read_text())["history"]]


def _remove_leftovers(place: str) -> None:
    with suppress(InputError):  # leftovers are no reason to lose a model, nor to hide why there is none
        remove(place)


def run_to_end(
    api: client.CustomObjectsApi,
    namespace: str,
    job: Mapping[str, Any],
    failure: Callable[[], str] = lambda: "",
    every: float = 10.0,
) -> None:
    """Post the job, wait until it is complete, and delete it in any case.

    Args:
        api: of the cluster.
        namespace: where the job goes.
        job: the TrainJob.
        failure: returns the error that a container wrote, or nothing. Kubernetes would restart failed containers again
            and again, even though the input is bad.
        every: seconds between two requests.

    Raises:
        InputError: the job cannot be posted, failed, or is gone.
    """
    name, nodes = job["metadata"]["name"], job["spec"]["trainer"]["numNodes"]
    cluster = Cluster(api, namespace)
    try:
        with posted(cluster, _KIND, job, every) as ours:
            say(f"TrainJob {name}, {nodes} machines: kubectl -n {namespace} logs -f -l {_POD_LABEL}={name}")
            _wait(ours, failure)
    except ApiException as error:
        raise _post_error(error, name, namespace) from error


def _post_error(error: ApiException, name: str, namespace: str) -> InputError:
    if refusal_of(error):
        advice = "fix what it names"
    else:
        advice = {
            403: "let the step's service account create, get and delete trainjobs.trainer.kubeflow.org",
            404: "install Kubeflow Trainer, or train with num_nodes 1",
        }.get(int(error.status or 0), "look at the API server's answer")
    return InputError(f"TrainJob {name} cannot be posted to namespace {namespace} ({reason_of(error)}): {advice}")


def _wait(job: Posted, failure: Callable[[], str]) -> None:
    shown = ""
    while True:
        found = job.look()
        if found is not None:
            status = found.get("status") or {}
            true = {row["type"]: row for row in status.get("conditions") or [] if row["status"] == "True"}
            if "Complete" in true:
                return
            if sentence := _read_failure(failure):
                raise InputError(sentence)
            if "Failed" in true:
                said = true["Failed"]
                raise InputError(
                    f"TrainJob {job.name} failed ({said.get('reason', '')}: {said.get('message', '')}): "
                    f"kubectl -n {job.cluster.namespace} get events and the logs of its pods say more"
                )
            state = _state(status)
            if state != shown:
                say(f"TrainJob {job.name}: {state}")
                shown = state
        time.sleep(job.pause)


def _read_failure(failure: Callable[[], str]) -> str:
    """Read the error that a container wrote; storage that is unavailable for a while does not end the training."""
    try:
        return failure()
    except InputError as error:
        say(f"{str(error).rpartition(': ')[0]}; trying again")
        return ""


def _state(status: Mapping[str, Any]) -> str:
    jobs = status.get("jobsStatus") or []
    active, ready = (sum(int(row.get(name) or 0) for row in jobs) for name in ("active", "ready"))
    return f"{ready} of {active} active jobs ready" if jobs else "waiting for its machines"


def _cluster(machines: Machines) -> tuple[client.CustomObjectsApi, str]:
    try:
        config.load_incluster_config()
    except config.ConfigException as error:
        raise InputError(
            f"num_nodes is {machines.nodes}, but this step runs on no cluster: train with num_nodes 1, or compile the "
            "pipeline and submit it to Kubeflow"
        ) from error
    return client.CustomObjectsApi(), _NAMESPACE_FILE.read_text().strip()
