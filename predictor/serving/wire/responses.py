"""Writes answers: the same numbers, bit for bit, as V1 JSON, V2 JSON, V2 binary and protobuf.

`rows` are probabilities, float32 of shape (texts, labels). JSON has a float32 as the float64 of the same value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from numpy.typing import NDArray

from predictor.model.calibration import answer_of, least_sure, ordinal_scores, ranked
from predictor.model.conformal import Conformal, label_sets, threshold_of
from predictor.serving.wire.outputs import SCORE, SEVERAL, TOP
from predictor.serving.wire.requests import InferenceRequest

# Texts whose predictions are written at a time.
_PART = 256


@dataclass(frozen=True)
class Model:
    """What an answer says of the model."""

    name: str
    version: str
    labels: Sequence[str]
    conformal: Conformal | None = None
    ordinal: bool = False
    thresholds: NDArray[np.float32] | None = field(default=None, compare=False)
    """Of a multi-label model, the least probability of each label, shape (labels,)."""

    @property
    def multi_label(self) -> bool:
        """Whether a text may have any number of labels."""
        return self.thresholds is not None


def v1_answer(request: InferenceRequest, model: Model, rows: NDArray[np.float32]) -> bytes:
    """Return the V1 body: a prediction for each instance, in order, with the best labels, or a set, if requested."""
    # In parts: as Python objects, an answer takes a hundred times the memory of its JSON.
    parts = [
        orjson.dumps(_predictions(request, model, rows[start : start + _PART]))[1:-1]
        for start in range(0, len(rows), _PART)
    ]
    return b'{"predictions":[%b],"model_version":%b}' % (b",".join(parts), orjson.dumps(model.version))


def explained(explanation: dict[str, Any], version: str) -> bytes:
    """Return the V1 body of an explanation."""
    return orjson.dumps({"explanations": [explanation], "model_version": version})


def _predictions(request: InferenceRequest, model: Model, rows: NDArray[np.float32]) -> list[dict[str, Any]]:
    labels, top_k = model.labels, request.top_k
    if model.thresholds is not None:
        predictions = _sets(model, model.thresholds, rows)
    else:
        best, confidence = rows.argmax(axis=1).tolist(), rows.max(axis=1).tolist()
        predictions = [{"label": labels[top], "confidence": value} for top, value in zip(best, confidence, strict=True)]
    if model.ordinal:
        for prediction, score in zip(predictions, ordinal_scores(rows).tolist(), strict=True):
            prediction[SCORE] = score
    if top_k:
        order = top(rows, top_k)
        values = np.take_along_axis(rows, order, axis=1)
        for prediction, places, scores in zip(predictions, order.tolist(), values.tolist(), strict=True):
            prediction["top_k"] = [
                {"label": labels[place], "confidence": score} for place, score in zip(places, scores, strict=True)
            ]
    if (threshold := threshold_of(model.conformal, request.coverage)) is not None:
        for prediction, inside in zip(predictions, label_sets(rows, threshold), strict=True):
            prediction["set"] = [labels[place] for place in inside]
    return predictions


def _sets(model: Model, thresholds: NDArray[np.float32], rows: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return what a multi-label model says: the labels, the confidence in all of them, and that in each."""
    said = zip(ranked(rows, thresholds), least_sure(rows, thresholds).tolist(), rows.tolist(), strict=True)
    return [
        {
            SEVERAL: [model.labels[place] for place in mine],
            "confidence": sure,
            "confidences": dict(zip(model.labels, row, strict=True)),
        }
        for mine, sure, row in said
    ]


def top(rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the indices of the k greatest values of each row, the greatest first, equal ones in the labels' order."""
    return np.argsort(-rows, axis=1, kind="stable")[:, :k]


def _tensors(request: InferenceRequest, model: Model, rows: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Return the requested outputs by name; label names are bytes."""
    labels = model.labels
    names = np.array([label.encode() for label in labels], dtype=object)
    tensors: dict[str, NDArray[Any]] = {}
    order = top(rows, request.top_k or len(labels)) if set(TOP) & set(request.outputs) else None
    for name in request.outputs:
        match name:
            case "label":
                tensors[name] = names[rows.argmax(axis=1)]
            case "labels":
                said, _ = answer_of(rows, labels, model.thresholds)
                tensors[name] = np.array([text.encode() for text in said], dtype=object)
            case "confidence":
                tensors[name] = rows.max(axis=1) if model.thresholds is None else least_sure(rows, model.thresholds)
            case "probabilities":
                tensors[name] = rows
            case "score":
                tensors[name] = ordinal_scores(rows)
            case "top_labels":
                tensors[name] = names[order]
            case "set":
                threshold = threshold_of(model.conformal, request.coverage)
                assert threshold is not None
                tensors[name] = _padded(names, label_sets(rows, threshold))
            case _:
                assert order is not None
                tensors[name] = np.take_along_axis(rows, order, axis=1)
    return tensors


def _padded(names: NDArray[Any], sets: Sequence[Sequence[int]]) -> NDArray[Any]:
    """Return sets of labels as a tensor of shape (texts, labels of the largest set), with empty names behind."""
    tensor = np.full((len(sets), max(map(len, sets))), b"", dtype=object)
    for row, inside in zip(tensor, sets, strict=True):
        row[: len(inside)] = names[inside]
    return tensor


def _packed(values: NDArray[Any]) -> bytes:
    if values.dtype != object:
        return values.astype("<f4", copy=False).tobytes()
    return b"".join(len(value).to_bytes(4, "little") + value for value in values.ravel())


def v2_answer(request: InferenceRequest, model: Model, rows: NDArray[np.float32]) -> tuple[bytes, int | None]:
    """Return the V2 body, and the length of its JSON part if binary tensors follow it."""
    outputs: list[dict[str, Any]] = []
    raw = []
    for output, values in _tensors(request, model, rows).items():
        text = values.dtype == object
        tensor: dict[str, Any] = {"name": output, "datatype": "BYTES" if text else "FP32", "shape": values.shape}
        if output in request.binary:
            raw.append(_packed(values))
            tensor["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            flat = values.ravel().tolist()
            tensor["data"] = [value.decode() for value in flat] if text else flat
        outputs.append(tensor)
    answer = {"model_name": model.name, "model_version": model.version, "outputs": outputs}
    if request.id:
        answer["id"] = request.id
    head = orjson.dumps(answer)
    return (head + b"".join(raw), len(head)) if raw else (head, None)


def grpc_answer(request: InferenceRequest, model: Model, rows: NDArray[np.float32]) -> pb.ModelInferResponse:
    """Return the V2 answer as protobuf."""
    answer = pb.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    for output, values in _tensors(request, model, rows).items():
        text = values.dtype == object
        tensor = answer.outputs.add(name=output, datatype="BYTES" if text else "FP32", shape=values.shape)
        if output in request.binary:
            answer.raw_output_contents.append(_packed(values))
        elif text:
            tensor.contents.bytes_contents.extend(values.ravel().tolist())
        else:
            tensor.contents.fp32_contents.extend(values.ravel().tolist())
    return answer
