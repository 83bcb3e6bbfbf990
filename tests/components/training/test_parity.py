"""Training and serving turn the same row into the same bytes and the same token ids."""

import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from components.data.collect import collect_frames
from components.data.dataset import Dataset
from components.data.prepare import prepare
from components.data.preparing.settings import Checks
from predictor.model.classifier import Classifier
from predictor.model.text import Encoder
from predictor.serving.wire.requests import read_grpc, read_v1, read_v2

ROWS = 10_000
PIECES = (
    "Oil", "prices", "rise", "The", "Cup", "goal", "#39;s", "&amp;quot;", "quot;", "&lt;b&gt;", "<b>", "</b>",
    "&#8217;", "\\$3.5", "\\", "AT&amp;T", "&nbsp;", "<a href='x, y'>", "</a>", "<PERSON>", "a<b", "1,000.50", "--",
    "\u00a0", "\u200b", "\ufeff", "\x07", "\x85", "\r\n", "\t", "\u2028", "cafe\u0301", "café", "Å", "ﬁ", "İ", "ß",
    "...", "नमस्ते", "สวัสดี", "港股", "٣", "🏆", "👩\u200d🚀", '"', "'", ",", "a\u0301" * 40, "x" * 300,
    "&" * 5 + "amp;",
)  # fmt: skip


def made() -> list[str]:
    """Rows of pieces that feeds, browsers and other scripts leave; no two are equal after cleaning."""
    drawn = random.Random(17)
    return [
        f"row{number} " + drawn.choice(("", " ", "\n")).join(drawn.choices(PIECES, k=drawn.randint(1, 40)))
        for number in range(ROWS + ROWS // 2)  # some of these heaps look damaged beyond repair, and are left out
    ]


def real() -> list[str]:
    """Rows of AG News, those with broken entities and backslashes first."""
    folder = os.environ.get("PIGEONHOLE_TEST_DATA")
    if not folder:
        pytest.skip("PIGEONHOLE_TEST_DATA names no folder with AG News")
    texts = pd.read_csv(Path(folder) / "ag_news" / "train.csv.gz")["text"]
    return texts.loc[(~texts.str.contains(r"[&;\\<]")).sort_values(kind="stable").index].head(ROWS).tolist()


@pytest.mark.parametrize("messy", [made, real])
def test_train_and_serve_read_the_same_bytes_from_messy_rows(
    messy: Callable[[], list[str]], backbone: Path, bundle: Path, tmp_path: Path
) -> None:
    rows = messy()
    frame = pd.DataFrame({"id": range(len(rows)), "text": rows, "label": ["a", "b"] * (len(rows) // 2)})
    (tmp_path / "given").mkdir()
    frame.to_csv(tmp_path / "given" / "train.csv", index=False, lineterminator="\n")
    prepare(collect_frames(str(tmp_path / "given")), seed=1, checks=Checks(max_rejected=0.33)).save(
        tmp_path / "prepared"
    )
    dataset = Dataset.load(tmp_path / "prepared")
    kept = pd.concat([split.frame for split in (dataset.train, dataset.validation, dataset.test)])
    kept = kept.head(ROWS)
    assert len(kept) > 0.97 * ROWS  # of real rows some are copies
    server = Classifier(bundle)
    training = Encoder(backbone, server.encoder.max_length)
    sent = [rows[int(number)] for number in kept["id"]]
    cleaned = [text.encode() for text in training.clean(kept["text"].tolist())]
    ids = training(kept["text"].tolist())
    received = _v1(sent)
    assert received == _v2(sent) == _grpc(sent)
    assert [text.encode() for text in server.encoder.clean(received)] == cleaned
    assert server.encoder(received) == ids
    assert any(len(row) == server.encoder.max_length for row in ids)


def _v1(texts: list[str]) -> list[str]:
    return read_v1(json.dumps({"instances": texts}).encode(), ROWS).texts


def _v2(texts: list[str]) -> list[str]:
    data = _packed(texts)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return read_v2(head + data, str(len(head)), ROWS).texts


def _grpc(texts: list[str]) -> list[str]:
    request = pb.ModelInferRequest(model_name="news", raw_input_contents=[_packed(texts)])
    request.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
    return read_grpc(request.SerializeToString(), "news", ROWS).texts


def _packed(texts: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(data)) + data for data in (text.encode() for text in texts))
