"""Training on several machines of a cluster: a TrainJob of Kubeflow Trainer, posted, followed and removed.

The job's machines share no disk with the step that waits for them, nor with each other. What they share is object
storage, an fsspec URI: the step puts the data there, the job's containers fetch it, and the first of them puts the
model there. They need three things that only the platform can give:

- the driver for that storage (s3fs, gcsfs, adlfs) in the steps' image, and a way in: AWS_ACCESS_KEY_ID and
  AWS_SECRET_ACCESS_KEY in a Secret named `pigeonhole-storage`, or a service account that needs no keys;
- the backbone: the embedded one, a folder in the image, or a hub that the machines reach;
- for the step's service account, leave to create, get and delete `trainjobs.trainer.kubeflow.org`.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
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
from components.training.recipe import HISTORY_FILE, Epoch
from predictor.errors import InputError

GROUP, VERSION = "trainer.kubeflow.org", "v1alpha1"
_KIND = Kind("TrainJob", GROUP, VERSION, "trainjobs")
RUNTIME = "torch-distributed"
SECRET = "pigeonhole-storage"
# The one replicated job of that runtime, and its container.
_NODE = "node"
# What the restricted pod security standard wants and the runtime does not say.
_POD_SECURITY = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
# Said of the storage and no secret, so copied as they are.
_COPIED = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_POD_LABEL = "jobset.sigs.k8s.io/jobset-name"


@dataclass(frozen=True)
class Machines:
    """How many machines train, and what each of them has."""

    nodes: int
    gpus: int = 0
    """GPUs of each machine, one process each; without any, a machine runs one process."""
    resources: Mapping[str, str] = field(default_factory=lambda: {"cpu": "4", "memory": "8Gi"})


def train_job(name: str, image: str, machines: Machines, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return the TrainJob that runs `components.training.distributed.train_worker` on the machines.

    Args:
        name: of the object; its pods are NAME-node-0-0, NAME-node-0-1 and so on.
        image: the steps' container image.
        machines: how many, how large.
        arguments: the program's options by name, without dashes.
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
                "command": ["torchrun", "-m", "components.training.distributed.train_worker"],
                "args": [f"--{option}={value}" for option, value in arguments.items()],
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
    """Return the patch of the runtime that gives its pods a security context; Trainer wants an owner with a domain."""
    pod = {
        "securityContext": _POD_SECURITY,
        "containers": [{"name": _NODE, "securityContext": _CONTAINER_SECURITY}],
    }
    job = {"name": _NODE, "template": {"spec": {"template": {"spec": pod}}}}
    return {
        "manager": "pigeonhole/fine-tune",
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}},
    }


def train_on_cluster(machines: Machines, data: Path, out: Path, run: str, arguments: Mapping[str, str]) -> list[Epoch]:
    """Fine-tune on several machines and return the training history.

    Args:
        machines: how many, how large.
        data: the dataset artifact's folder.
        out: folder to put the model into.
        run: id of the pipeline run; a step that is tried again finds the job that it posted before.
        arguments: options of `components.training.distributed.train_worker`, except data and out;
            `checkpoints` is the object storage that all machines share.

    Raises:
        InputError: there is no cluster or no shared storage, or the job failed; one sentence says why.
    """
    shared = arguments.get("checkpoints", "")
    if not is_remote(shared):
        raise InputError(
            f"num_nodes is {machines.nodes}, but checkpoint_root '{shared}' is no place that machines share: "
            "give the pipeline a URI such as s3://bucket/checkpoints, or train with num_nodes 1"
        )
    api, namespace = _cluster(machines)
    identity = json.dumps([run, machines.nodes, dict(arguments)], sort_keys=True)
    name = f"pigeonhole-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"
    place = f"{shared.rstrip('/')}/{name}"
    image = os.environ.get(IMAGE_VARIABLE, STEPS_IMAGE)
    job = train_job(name, image, machines, {**arguments, "data": f"{place}/data", "out": f"{place}/out"})
    try:
        if not read_text(f"{place}/out/{HISTORY_FILE}"):  # else a try before this one trained it
            if not read_text(f"{place}/data/{REPORT_FILE}"):
                upload(data, f"{place}/data", last=REPORT_FILE)
            run_to_end(api, namespace, job, failure=lambda: read_text(f"{place}/out/{FAILURE_FILE}"))
    except BaseException:
        _removed(place)
        raise
    download(f"{place}/out", out)  # what cannot be fetched now stays there, for the next try
    _removed(place)
    return [Epoch(**row) for row in json.loads((out / HISTORY_FILE).read_text())["history"]]


def _removed(place: str) -> None:
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
        failure: returns the sentence that a container left, or nothing. Kubernetes would start failed containers
            again and again, though the input stays as bad as it was.
        every: seconds between two looks.

    Raises:
        InputError: the job cannot be posted, failed, or is gone.
    """
    name, nodes = job["metadata"]["name"], job["spec"]["trainer"]["numNodes"]
    cluster = Cluster(api, namespace)
    try:
        with posted(cluster, _KIND, job, every) as ours:
            say(f"TrainJob {name}, {nodes} machines: kubectl -n {namespace} logs -f -l {_POD_LABEL}={name}")
            _follow(ours, failure)
    except ApiException as error:
        raise _refused(error, name, namespace) from error


def _refused(error: ApiException, name: str, namespace: str) -> InputError:
    if refusal_of(error):
        advice = "mend what it names"
    else:
        advice = {
            403: "let the step's service account create, get and delete trainjobs.trainer.kubeflow.org",
            404: "install Kubeflow Trainer, or train with num_nodes 1",
        }.get(int(error.status or 0), "look at the API server's answer")
    return InputError(f"TrainJob {name} cannot be posted to namespace {namespace} ({reason_of(error)}): {advice}")


def _follow(job: Posted, failure: Callable[[], str]) -> None:
    shown = ""
    while True:
        found = job.look()
        if found is not None:
            status = found.get("status") or {}
            true = {row["type"]: row for row in status.get("conditions") or [] if row["status"] == "True"}
            if "Complete" in true:
                return
            if sentence := _without_fail(failure):
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


def _without_fail(failure: Callable[[], str]) -> str:
    """Ask for the containers' sentence; storage that is away for a while ends no training."""
    try:
        return failure()
    except InputError as error:
        say(f"{str(error).rpartition(': ')[0]}; asking again")
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
