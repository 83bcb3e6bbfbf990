"""Ways to ask a running server the same texts."""

import json
import struct
from typing import Any

import grpc
import httpx
import numpy as np
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.predictor.conftest import Server

TEXTS = ["goal cup striker", "profit bank &amp; shares", "treaty — rebels, «vote»", "球 zzz", "cup league coach " * 8]


def tensor_of(texts: list[Any], **more: Any) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts, **more}


def ask_grpc(server: Server, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    with grpc.insecure_channel(server.grpc) as channel:
        return GRPCInferenceServiceStub(channel).ModelInfer(request)


def answers_v1(server: Server) -> list[tuple[str, float]]:
    body = httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": TEXTS}).raise_for_status().json()
    return [(row["label"], row["confidence"]) for row in body["predictions"]]


def answers_v2(server: Server) -> list[tuple[str, float]]:
    request = {"inputs": [tensor_of(TEXTS)]}
    body = httpx.post(f"{server.http}/v2/models/toy/infer", json=request).raise_for_status().json()
    data = {output["name"]: output["data"] for output in body["outputs"]}
    return list(zip(data["label"], data["confidence"], strict=True))


def packed(texts: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def unpacked(raw: bytes) -> list[str]:
    texts = []
    while raw:
        (size,) = struct.unpack_from("<I", raw)
        texts.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return texts


def answers_v2_binary(server: Server) -> list[tuple[str, float]]:
    raw = packed(TEXTS)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(TEXTS)], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    got = httpx.post(f"{server.http}/v2/models/toy/infer", content=head + raw, headers=headers).raise_for_status()
    size = int(got.headers["inference-header-content-length"])
    outputs = {output["name"]: output for output in json.loads(got.content[:size])["outputs"]}
    labels = outputs["label"]["parameters"]["binary_data_size"]
    confidence = np.frombuffer(got.content[size + labels :], dtype="<f4")
    return list(zip(unpacked(got.content[size : size + labels]), confidence.tolist(), strict=True))


def answers_grpc(server: Server) -> list[tuple[str, float]]:
    contents = pb.InferTensorContents(bytes_contents=[text.encode() for text in TEXTS])
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(TEXTS)], contents=contents)
    answer = ask_grpc(server, pb.ModelInferRequest(model_name="toy", inputs=[tensor]))
    data = {output.name: output.contents for output in answer.outputs}
    labels = [label.decode() for label in data["label"].bytes_contents]
    return list(zip(labels, data["confidence"].fp32_contents, strict=True))


def answers_grpc_raw(server: Server) -> list[tuple[str, float]]:
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(TEXTS)])
    request = pb.ModelInferRequest(model_name="toy", inputs=[tensor], raw_input_contents=[packed(TEXTS)])
    answer = ask_grpc(server, request)
    assert [output.name for output in answer.outputs] == ["label", "confidence"]
    labels, confidence = answer.raw_output_contents
    return list(zip(unpacked(labels), np.frombuffer(confidence, dtype="<f4").tolist(), strict=True))


def many(count: int) -> list[str]:
    """Texts of 60 words, no two alike."""
    return [f"{'goal bank treaty ' * 20}{number}" for number in range(count)]


def metric(server: Server, name: str) -> dict[str, float]:
    lines = httpx.get(f"{server.http}/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)}
