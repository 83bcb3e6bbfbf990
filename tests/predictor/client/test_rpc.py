"""gRPC: messages that are those of KServe, and what each status means."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from predictor.client import Answers, Server, ask, messages, rpc
from predictor.errors import InputError, Unavailable


def _described(message: type) -> DescriptorProto:
    described = DescriptorProto()
    message.DESCRIPTOR.CopyToProto(described)  # type: ignore[attr-defined]
    return described


@pytest.mark.parametrize("name", ["ModelInferRequest", "ModelInferResponse", "InferTensorContents"])
def test_our_messages_are_a_part_of_those_of_kserve(name: str) -> None:
    ours = DescriptorProto()
    messages._POOL.FindMessageTypeByName(f"inference.{name}").CopyToProto(ours)
    theirs = _described(getattr(pb, name))
    assert ours.field and all(field in theirs.field for field in ours.field)
    nested = {tensor.name: tensor for tensor in theirs.nested_type}
    for tensor in ours.nested_type:
        assert tensor.field and all(field in nested[tensor.name].field for field in tensor.field)


def test_kserve_reads_our_request_and_writes_the_same_bytes() -> None:
    sent = rpc._request("toy", ["a", "ü\u2028"]).SerializeToString()
    contents = pb.InferTensorContents(bytes_contents=[b"a", "ü\u2028".encode()])
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[2], contents=contents)
    assert pb.ModelInferRequest(model_name="toy", inputs=[tensor]).SerializeToString() == sent
    assert pb.ModelInferRequest.FromString(sent).SerializeToString() == sent


def test_we_read_the_response_of_kserve_and_write_the_same_bytes() -> None:
    sent = _response(["A", "Ü"]).SerializeToString()
    read = messages.ModelInferResponse.FromString(sent)
    assert read.SerializeToString() == sent
    assert read.model_version == "1" and [output.name for output in read.outputs] == ["label", "confidence"]
    assert read.outputs[0].contents.bytes_contents == [b"A", "Ü".encode()]
    assert read.outputs[1].contents.fp32_contents == [0.5, 0.5]
    more = pb.ModelInferResponse(id="7", parameters={"a": pb.InferParameter(bool_param=True)})
    assert messages.ModelInferResponse.FromString(sent + more.SerializeToString()).outputs == read.outputs


def _response(labels: list[str]) -> pb.ModelInferResponse:
    tensor = pb.ModelInferResponse.InferOutputTensor
    given = pb.InferTensorContents(bytes_contents=[label.encode() for label in labels])
    sure = pb.InferTensorContents(fp32_contents=[0.5 for _ in labels])
    outputs = [
        tensor(name="label", datatype="BYTES", shape=[len(labels)], contents=given),
        tensor(name="confidence", datatype="FP32", shape=[len(labels)], contents=sure),
    ]
    return pb.ModelInferResponse(model_version="1", outputs=outputs)


class _Reluctant(GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Refuses once with each of the codes, then answers."""

    def __init__(self, *codes: grpc.StatusCode, empty: str = "") -> None:
        self.codes = list(codes)
        self.empty = empty

    def ModelInfer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        if self.codes:
            context.set_trailing_metadata((("empty-texts", self.empty),) if self.empty else ())
            context.abort(self.codes.pop(0), "full\nhouse")
        return _response([text.decode().upper() for text in request.inputs[0].contents.bytes_contents])


@contextmanager
def _serving(servicer: _Reluctant) -> Iterator[Server]:
    served = grpc.server(ThreadPoolExecutor(1))
    add_GRPCInferenceServiceServicer_to_server(servicer, served)
    port = served.add_insecure_port("127.0.0.1:0")
    served.start()
    try:
        yield Server.at("grpc", f"http://127.0.0.1:{port}", "toy")
    finally:
        served.stop(None).wait()


@pytest.mark.usefixtures("short_pauses")
def test_the_codes_that_mean_busy_are_tried_again() -> None:
    reluctant = _Reluctant(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    with _serving(reluctant) as server:
        assert list(ask(server, ["a"])) == [Answers(["A"], [0.5], "1")]
    assert reluctant.codes == []


def test_texts_that_are_empty_after_cleaning_are_left_out() -> None:
    with _serving(_Reluctant(grpc.StatusCode.INVALID_ARGUMENT, empty="0,2")) as server:
        assert [answers.labels for answers in ask(server, ["<b>", "a", "<p>"])] == [[None, "A", None]]


@pytest.mark.parametrize(
    ("code", "error", "sentence"),
    [
        ("INVALID_ARGUMENT", InputError, r"answers INVALID_ARGUMENT \(full house\): check the URL, the model's name"),
        ("NOT_FOUND", InputError, "NOT_FOUND"),
        ("UNIMPLEMENTED", InputError, "UNIMPLEMENTED"),
        ("INTERNAL", Unavailable, r"answers INTERNAL \(full house\): look at the server's log"),
        ("DEADLINE_EXCEEDED", Unavailable, "DEADLINE_EXCEEDED"),
    ],
)
def test_other_codes_end_it_at_once(code: str, error: type[Exception], sentence: str) -> None:
    with _serving(_Reluctant(grpc.StatusCode[code])) as server, pytest.raises(error, match=sentence):
        list(ask(server, ["a"]))
