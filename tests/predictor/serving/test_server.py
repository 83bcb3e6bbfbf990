import json
import threading
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from predictor.errors import InputError
from predictor.model.bundle import Bundle
from predictor.model.classifier import Classifier
from predictor.model.conformal import label_sets
from predictor.serving.scheduler import Limits
from predictor.serving.server import serve
from tests.conftest import SPORTS
from tests.predictor.conftest import Server, serving
from tests.predictor.serving.asking import (
    TEXTS,
    answers_grpc,
    answers_grpc_raw,
    answers_v1,
    answers_v2,
    answers_v2_binary,
    ask_grpc,
    many,
    tensor_of,
)


@pytest.mark.parametrize(("running", "folder"), [("server", "bundle"), ("cascade_server", "cascade_bundle")])
def test_every_protocol_gives_the_classifiers_answers_bit_for_bit(
    running: str, folder: str, request: pytest.FixtureRequest
) -> None:
    classifier = Classifier(request.getfixturevalue(folder))
    if classifier.cascade:
        assert set(classifier.cascade(classifier.encoder.clean(TEXTS))[1]) == {False, True}
    ours = [(answer.label, answer.confidence) for answer in classifier.classify(TEXTS)]
    for ask in (answers_v1, answers_v2, answers_v2_binary, answers_grpc, answers_grpc_raw):
        assert ask(request.getfixturevalue(running)) == ours, ask.__name__


def test_instances_may_be_objects_and_the_charset_may_be_named(server: Server) -> None:
    for content_type in ("application/json", "application/json; charset=utf-8", "text/plain"):
        got = httpx.post(
            f"{server.http}/v1/models/toy:predict",
            content=json.dumps({"instances": [{"text": SPORTS}]}),
            headers={"content-type": content_type},
        )
        assert got.json()["predictions"][0]["label"] == "Sports", content_type
    got = httpx.post(
        f"{server.http}/v2/models/toy/infer",
        content=json.dumps({"inputs": [tensor_of([SPORTS])]}),
        headers={"content-type": "application/json; charset=utf-8"},
    )
    assert got.json()["outputs"][0]["data"] == ["Sports"]


def test_request_ids_versions_and_asked_outputs(server: Server, bundle: Path) -> None:
    request = {"id": "r1", "inputs": [tensor_of(["goal"])], "outputs": [{"name": "confidence"}]}
    body = httpx.post(f"{server.http}/v2/models/toy/infer", json=request).json()
    assert body["id"] == "r1" and body["model_version"] == Bundle.open(bundle).digest[:12]
    assert [output["name"] for output in body["outputs"]] == ["confidence"]


def test_metadata_says_the_true_inputs_and_outputs(server: Server) -> None:
    body = httpx.get(f"{server.http}/v2/models/toy").json()
    assert [(t["name"], t["datatype"]) for t in body["inputs"]] == [("text", "BYTES")]
    assert [(t["name"], t["datatype"], t["shape"]) for t in body["outputs"]] == [
        ("label", "BYTES", [-1]),
        ("confidence", "FP32", [-1]),
        ("probabilities", "FP32", [-1, 3]),
        ("top_labels", "BYTES", [-1, -1]),
        ("top_confidences", "FP32", [-1, -1]),
        ("set", "BYTES", [-1, -1]),
    ]


def test_nobody_can_take_the_model_away(server: Server) -> None:
    for verb in ("load", "unload"):
        assert httpx.post(f"{server.http}/v2/repository/models/toy/{verb}").status_code == 400
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError):
        GRPCInferenceServiceStub(channel).RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="toy"))
    assert answers_v1(server)


@pytest.mark.parametrize("path", ["versions/1", "versions/1/ready"])
def test_a_version_by_number_is_a_404_without_a_traceback(server: Server, path: str) -> None:
    got = httpx.get(f"{server.http}/v2/models/toy/{path}")
    assert got.status_code == 404
    assert got.json() == {"error": f"GET /v2/models/toy/{path} is not served: /docs lists what is"}
    assert "Traceback" not in server.log.read_text()


def test_an_unknown_model_is_a_404(server: Server) -> None:
    got = httpx.post(f"{server.http}/v1/models/other:predict", json={"instances": ["x"]})
    assert got.status_code == 404 and "other" in got.json()["error"]


def test_health_stays_quick_while_the_model_works(server: Server) -> None:
    work = threading.Thread(
        target=httpx.post,
        args=(f"{server.http}/v1/models/toy:predict",),
        kwargs={"json": {"instances": many(1500)}, "timeout": 120},
    )
    work.start()
    answered_during_work = 0
    while work.is_alive():
        assert httpx.get(f"{server.http}/v2/health/live").status_code == 200
        answered_during_work += work.is_alive()
    work.join()
    assert answered_during_work >= 3


def test_nothing_of_a_request_is_logged(server: Server) -> None:
    httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": ["secret words"]})
    httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": [5]})
    log = server.log.read_text()
    assert "secret" not in log and "Traceback" not in log and ":predict" not in log


def test_a_second_server_on_the_port_is_refused_in_one_sentence(server: Server, bundle: Path, tmp_path: Path) -> None:
    for option, port in (("--http-port", server.http.rsplit(":")[-1]), ("--grpc-port", server.grpc.rsplit(":")[-1])):
        refused = pytest.raises(AssertionError, match=f"ended with 2: pigeonhole: {option} {port} cannot be used")
        with refused, serving(bundle, tmp_path / "log", option, port):
            pass


@pytest.mark.parametrize("name", ["", "a/b", "a b", "球", "-a"])
def test_a_name_that_cannot_stand_in_a_path_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot stand in a path"):
        serve(tmp_path, name, 8080, 8081, Limits(1024, 1.0, 0, 1024))


def test_probabilities_and_top_k_are_those_of_the_classifier(server: Server, bundle: Path) -> None:
    ours = Classifier(bundle)
    request = {"inputs": [tensor_of(TEXTS)], "outputs": [{"name": "probabilities"}, {"name": "top_labels"}]}
    body = httpx.post(f"{server.http}/v2/models/toy/infer", json={**request, "parameters": {"top_k": 2}}).json()
    outputs = {output["name"]: output for output in body["outputs"]}
    rows = np.array(outputs["probabilities"]["data"], dtype=np.float32).reshape(outputs["probabilities"]["shape"])
    np.testing.assert_allclose(rows, ours.probabilities(TEXTS), atol=1e-6)
    best = [[ours.labels[place] for place in np.argsort(-row)[:2]] for row in rows]
    assert np.reshape(outputs["top_labels"]["data"], outputs["top_labels"]["shape"]).tolist() == best


def test_an_expired_deadline_is_a_504(server: Server) -> None:
    body = {"instances": many(1000), "parameters": {"timeout": 1}}
    got = httpx.post(f"{server.http}/v1/models/toy:predict", json=body)
    assert got.status_code == 504 and "no answer within" in got.json()["error"]


def _sets(server: Server, coverage: float) -> dict[str, list[list[str]]]:
    """Ask for the sets of all texts over every protocol."""
    v1 = {"instances": TEXTS, "parameters": {"coverage": coverage}}
    body = httpx.post(f"{server.http}/v1/models/toy:predict", json=v1).raise_for_status().json()
    found = {"v1": [row["set"] for row in body["predictions"]]}
    v2 = {"inputs": [tensor_of(TEXTS)], "parameters": {"coverage": coverage}}
    body = httpx.post(f"{server.http}/v2/models/toy/infer", json=v2).raise_for_status().json()
    (tensor,) = (output for output in body["outputs"] if output["name"] == "set")
    rows = np.reshape(tensor["data"], tensor["shape"]).tolist()
    found["v2"] = [[label for label in row if label] for row in rows]
    contents = pb.InferTensorContents(bytes_contents=[text.encode() for text in TEXTS])
    asked = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(TEXTS)], contents=contents)
    request = pb.ModelInferRequest(model_name="toy", inputs=[asked])
    request.parameters["coverage"].string_param = str(coverage)
    (output,) = (output for output in ask_grpc(server, request).outputs if output.name == "set")
    labels = [label.decode() for label in output.contents.bytes_contents]
    found["grpc"] = [[label for label in row if label] for row in np.reshape(labels, list(output.shape)).tolist()]
    return found


def test_sets_are_those_of_the_bundles_thresholds_over_every_protocol(server: Server, bundle: Path) -> None:
    ours = Classifier(bundle)
    assert ours.conformal is not None
    for level in ours.conformal.levels:
        sets = label_sets(ours.probabilities(TEXTS), level.threshold)
        named = [[ours.labels[place] for place in inside] for inside in sets]
        assert _sets(server, level.coverage) == {"v1": named, "v2": named, "grpc": named}


def test_a_coverage_that_there_is_not_is_refused_and_nothing_else_changes(
    server: Server, cascade_server: Server
) -> None:
    request = {"instances": ["goal"], "parameters": {"coverage": 0.42}}
    got = httpx.post(f"{server.http}/v1/models/toy:predict", json=request)
    assert (got.status_code, got.json()["error"]) == (400, "there is no coverage 0.42: ask for 0.9, 0.95")
    # The pair has no thresholds, as in a bundle that is older than label sets.
    got = httpx.post(f"{cascade_server.http}/v1/models/toy:predict", json=request)
    assert got.status_code == 400 and "no thresholds for label sets: leave coverage out" in got.json()["error"]
    got = httpx.post(f"{cascade_server.http}/v1/models/toy:predict", json={"instances": ["goal"]})
    assert set(got.json()["predictions"][0]) == {"label", "confidence"}
