"""The TrainJob, posted with the real client to a small API server that plays Kubeflow Trainer."""

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from components.data.dataset import Dataset
from components.platform.storage import write_text
from components.training.component import fine_tune
from components.training.distributed import trainjob
from components.training.distributed.trainjob import Machines, run_to_end, train_job, train_on_cluster
from components.training.job import TrainingJob
from pipelines.running.local import run_training
from predictor.errors import InputError
from tests.pod_security import violations

PATH = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainjobs"
JOB, OUT = TrainingJob("s3://b/data", hyperparameters={"learning_rate": "3e-05"}), "s3://b/out"
COMPLETE = {"type": "Complete", "status": "True", "reason": "JobsCompleted", "message": "done"}
FAILED = {"type": "Failed", "status": "True", "reason": "FailedJobs", "message": "jobset failed"}


class Trainer:
    """Holds objects, and walks each one through the given statuses, one a look; a number is an HTTP error."""

    def __init__(self) -> None:
        self.statuses: list[dict[str, Any] | int] = []
        self.refuse: tuple[int, str] | None = None
        self.lost: list[int] = []
        """What comes instead of the answers to changes that were made: an HTTP error, or 0 for nothing at all."""
        self.objects: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.on_look: Callable[[], None] = lambda: None
        self.on_change: Callable[[], None] = lambda: None

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.calls.append(method)
        name = path.removeprefix(PATH).strip("/")
        if method == "POST":
            assert path == PATH
            if self.refuse:
                return self.refuse[0], {"message": self.refuse[1]}
            if body["metadata"]["name"] in self.objects:
                return 409, {"message": "already exists"}
            self.objects[body["metadata"]["name"]] = body
            return self._answered(201, body)
        if name not in self.objects:
            return 404, {"message": f"trainjobs {name} not found"}
        if method == "DELETE":
            return self._answered(200, self.objects.pop(name))
        self.on_look()
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(status, int):
            return status, {"message": "not now"}
        return 200, {**self.objects[name], "status": status}

    def _answered(self, code: int, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.on_change()
        return (self.lost.pop(0), {}) if self.lost else (code, body)


@pytest.fixture
def trainer() -> Trainer:
    return Trainer()


@pytest.fixture
def api(trainer: Trainer) -> Iterator[client.CustomObjectsApi]:
    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            code, answer = trainer.answer(self.command, self.path.split("?")[0], json.loads(body or b"{}"))
            if code == 0:
                self.close_connection = True
                return
            said = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_DELETE = _handle

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        with client.ApiClient(client.Configuration(host=host)) as connection:
            yield client.CustomObjectsApi(connection)
        server.shutdown()


def _job() -> dict[str, Any]:
    return train_job("pigeonhole-1", "example.org/steps@sha256:1", Machines(3), JOB, OUT)


def test_the_job_is_what_trainer_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("kubeflow_trainer_api.models", reason="kubeflow-trainer-api is not installed")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    job = train_job("pigeonhole-1", "image", Machines(2, gpus=4), JOB, OUT)
    # The models drop unknown fields: what comes back whole was known in full.
    assert models.TrainerV1alpha1TrainJob.from_dict(job).to_dict() == job


def test_its_pods_keep_to_the_restricted_standard() -> None:
    # The runtime torch-distributed, as Kubeflow Trainer 2.3 installs it; patches are merged by name.
    runtime: dict[str, Any] = {"containers": [{"name": "node", "image": "pytorch/pytorch"}]}
    (patch,) = _job()["spec"]["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert [job["name"], *(container["name"] for container in pod["containers"])] == ["node", "node"]
    merged = {**runtime, **pod, "containers": [{**runtime["containers"][0], **pod["containers"][0]}]}
    assert violations(runtime) and violations(merged) == []
    # Trainer's webhook refuses an owner without a domain.
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[\w.~-]+", patch["manager"])


def test_its_containers_run_the_program_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.training.distributed.train_worker import parser

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    trainer = train_job("one", "image", Machines(2, gpus=4), JOB, OUT)["spec"]["trainer"]
    assert trainer["command"] == ["torchrun", "--no-python", "pigeonhole", "train-worker"]
    asked = parser().parse_args(trainer["args"])
    assert TrainingJob.from_options(asked) == JOB and asked.out == OUT
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "4"}
    values = {row["name"]: row.get("value") for row in trainer["env"]}
    assert values["AWS_ENDPOINT_URL"] == "http://minio:9000"
    assert values["AWS_SECRET_ACCESS_KEY"] is None  # comes from the Secret
    assert _job()["spec"]["trainer"]["numProcPerNode"] == 1


def test_a_job_is_posted_followed_and_deleted(
    trainer: Trainer, api: client.CustomObjectsApi, capsys: pytest.CaptureFixture[str]
) -> None:
    active = {"name": "node", "active": 1, "ready": 1, "failed": 0, "succeeded": 0, "suspended": 0}
    trainer.statuses = [{}, {"jobsStatus": [active]}, {"jobsStatus": [active]}, {"conditions": [COMPLETE]}]
    run_to_end(api, "team", _job(), every=0.01)
    assert trainer.calls == ["POST", "GET", "GET", "GET", "GET", "DELETE"] and not trainer.objects
    said = capsys.readouterr().out
    assert "waiting for its machines" in said and said.count("1 of 1 active jobs ready") == 1


def test_a_failed_job_is_one_sentence_and_gone(trainer: Trainer, api: client.CustomObjectsApi) -> None:
    trainer.statuses = [{"conditions": [{**COMPLETE, "status": "False"}]}, {"conditions": [FAILED]}]
    with pytest.raises(
        InputError, match=r"^TrainJob pigeonhole-1 failed \(FailedJobs: jobset failed\): kubectl -n team"
    ):
        run_to_end(api, "team", _job(), every=0.01)
    assert trainer.calls[-1] == "DELETE" and not trainer.objects


def test_the_sentence_of_a_container_ends_the_wait(trainer: Trainer, api: client.CustomObjectsApi) -> None:
    trainer.statuses = [{}]  # Kubernetes would start the containers again and again
    sentences = iter(["", "", "the loss became nan in epoch 1: lower the learning rate"])
    with pytest.raises(InputError, match=r"^the loss became nan"):
        run_to_end(api, "team", _job(), failure=lambda: next(sentences), every=0.01)
    assert not trainer.objects


def test_an_api_server_that_is_away_for_a_while_is_waited_for(trainer: Trainer, api: client.CustomObjectsApi) -> None:
    trainer.statuses = [500, 503, {}, {"conditions": [COMPLETE]}]
    run_to_end(api, "team", _job(), every=0.01)
    assert not trainer.objects


def test_a_step_that_is_tried_again_follows_the_job_it_posted(
    trainer: Trainer, api: client.CustomObjectsApi, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.statuses = [{"conditions": [COMPLETE]}]
    trainer.objects["pigeonhole-1"] = _job()
    run_to_end(api, "team", _job(), every=0.01)
    assert "is there already" in capsys.readouterr().out and not trainer.objects


@pytest.mark.parametrize("lost", [[0], [500], [0, 504]])
def test_a_lost_answer_neither_leaves_the_job_nor_makes_a_second(
    trainer: Trainer, api: client.CustomObjectsApi, lost: list[int]
) -> None:
    trainer.statuses, trainer.lost = [{}, {"conditions": [COMPLETE]}], lost
    run_to_end(api, "team", _job(), every=0.01)
    assert trainer.calls.count("POST") == 2 and trainer.calls.count("GET") >= 2 and not trainer.objects


def test_a_step_that_is_stopped_before_it_knows_of_its_job_takes_it_along(
    trainer: Trainer, api: client.CustomObjectsApi
) -> None:
    trainer.lost = [0]
    trainer.on_change = lambda: os.kill(os.getpid(), signal.SIGTERM) if trainer.calls == ["POST"] else None
    with pytest.raises(SystemExit):
        run_to_end(api, "team", _job(), every=0.01)
    assert not trainer.objects and trainer.calls[-1] == "DELETE"


def test_somebody_elses_job_of_that_name_is_left_alone(trainer: Trainer, api: client.CustomObjectsApi) -> None:
    trainer.statuses, trainer.objects["pigeonhole-1"] = [{}], {"metadata": {"name": "pigeonhole-1"}}
    with pytest.raises(InputError, match="TrainJob team/pigeonhole-1 is there already and is somebody else's"):
        run_to_end(api, "team", _job(), every=0.01)
    assert "pigeonhole-1" in trainer.objects and "DELETE" not in trainer.calls


def test_a_webhooks_refusal_is_told_in_its_own_words(trainer: Trainer, api: client.CustomObjectsApi) -> None:
    trainer.refuse = (403, 'admission webhook "v.trainer" denied the request: numNodes must be one')
    with pytest.raises(InputError, match=r"denied the request: numNodes must be one\): fix what it names"):
        run_to_end(api, "team", _job(), every=0.01)


def test_storage_that_is_away_for_a_while_ends_no_training(trainer: Trainer, api: client.CustomObjectsApi) -> None:
    def failure() -> str:
        raise InputError("s3://b cannot be read (ConnectionError): look at the address")

    trainer.statuses = [{}, {}, {"conditions": [COMPLETE]}]
    run_to_end(api, "team", _job(), failure=failure, every=0.01)
    assert not trainer.objects


@pytest.mark.parametrize(
    ("status", "advice"), [(403, "let the step's service account"), (404, "install Kubeflow Trainer"), (422, "answer")]
)
def test_a_job_that_cannot_be_posted(trainer: Trainer, api: client.CustomObjectsApi, status: int, advice: str) -> None:
    trainer.refuse = (status, "no such luck")
    with pytest.raises(InputError, match=rf"namespace team \({status} no such luck\): .*{advice}"):
        run_to_end(api, "team", _job(), every=0.01)


def test_a_job_that_somebody_deletes(trainer: Trainer, api: client.CustomObjectsApi) -> None:
    trainer.statuses = [{}, 404]
    with pytest.raises(InputError, match="was deleted while it ran"):
        run_to_end(api, "team", _job(), every=0.01)


def test_a_step_that_is_stopped_takes_its_job_along(trainer: Trainer, api: client.CustomObjectsApi) -> None:
    trainer.statuses = [{}]
    trainer.on_look = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit):
        run_to_end(api, "team", _job(), every=0.01)
    assert not trainer.objects and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_step_trains_on_a_cluster_over_shared_storage(
    trainer: Trainer, api: client.CustomObjectsApi, dataset: Dataset, backbone: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Trainer's part is played by running the container's own command here, once."""
    from components.training.distributed.train_worker import main

    monkeypatch.setattr(trainjob, "_cluster", lambda machines: (api, "team"))
    dataset.save(tmp_path / "data")
    trainer.statuses = [{"conditions": [COMPLETE]}]

    def work() -> None:
        (job,) = trainer.objects.values()
        trainer.on_look = lambda: None
        main(job["spec"]["trainer"]["args"])

    trainer.on_look = work
    root = (tmp_path / "shared").as_uri()
    training = TrainingJob(str(tmp_path / "data"), str(backbone), max_length=32, checkpoints=root)
    history = train_on_cluster(Machines(2), training, tmp_path / "out", "run-1")
    assert len(history) == 6 and (tmp_path / "out" / "model.safetensors").is_file()
    assert list((tmp_path / "shared").iterdir()) == []


def test_a_model_that_cannot_be_fetched_stays_for_the_next_try(
    trainer: Trainer, api: client.CustomObjectsApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainjob, "_cluster", lambda machines: (api, "team"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "report.json").write_text("{}")
    trainer.statuses = [{"conditions": [COMPLETE]}]

    def train() -> None:
        (job,) = trainer.objects.values()
        place = next(word[6:] for word in job["spec"]["trainer"]["args"] if word.startswith("--out="))
        write_text(f"{place}/training.json", '{"history": []}')

    def away(*_: Any) -> Any:
        raise InputError("the storage is away")

    trainer.on_look = train
    training = TrainingJob(str(tmp_path / "data"), checkpoints=(tmp_path / "shared").as_uri())
    with monkeypatch.context() as patch, pytest.raises(InputError, match="the storage is away"):
        patch.setattr(trainjob, "download", away)
        train_on_cluster(Machines(2), training, tmp_path / "out", "run-1")
    trainer.calls.clear()
    assert train_on_cluster(Machines(2), training, tmp_path / "out", "run-1") == []
    assert trainer.calls == [] and list((tmp_path / "shared").iterdir()) == []


def test_several_machines_need_storage_that_they_share(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checkpoint_root '/somewhere' is no place that machines share"):
        train_on_cluster(Machines(2), TrainingJob("data", checkpoints="/somewhere"), tmp_path, "run-1")


def test_several_machines_need_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="num_nodes is 2, but this step runs on no cluster"):
        train_on_cluster(Machines(2), TrainingJob("data", checkpoints="memory://shared"), tmp_path, "run-1")


def test_a_local_run_has_one_machine(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this is one machine: compile the pipeline and submit it"):
        run_training(tmp_path / "out", num_nodes=2)
    assert list(tmp_path.iterdir()) == []
    assert fine_tune.component_spec.inputs["num_nodes"].default == 1
