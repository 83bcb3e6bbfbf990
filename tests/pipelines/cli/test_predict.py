"""`pigeonhole predict` as a process: against a real server, and against one that is busy, broken or no predictor."""

import csv
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from pipelines.running.label_file import predict_file
from predictor.client import ask as asking
from predictor.client.ask import BATCH_TEXTS, IN_FLIGHT, Server, ServerFailed, ask
from predictor.errors import InputError
from predictor.model.bundle import Bundle
from predictor.model.classifier import Classifier
from tests.predictor.conftest import Server as Running
from tests.predictor.conftest import free_port, start_server

TEXTS = ["goal cup striker", "profit, bank & \u2028“shares”", "球 zzz"]


def pigeonhole(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=dict(os.environ))


@pytest.fixture(scope="module")
def running(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    server = start_server(bundle, tmp_path_factory.mktemp("server") / "log")
    yield server
    server.stop()


def _url(running: Running, protocol: str) -> str:
    return f"http://{running.grpc}" if protocol == "grpc" else running.http


@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc"])
def test_texts_get_the_classifiers_answers_over_every_protocol(running: Running, bundle: Path, protocol: str) -> None:
    done = pigeonhole("--url", _url(running, protocol), "--model-name", "toy", "--protocol", protocol, *TEXTS)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    ours = Classifier(bundle).classify(TEXTS)
    assert told == {
        "model": "toy",
        "model_version": Bundle.open(bundle).digest[:12],
        "predictions": [
            {"text": text, "label": answer.label, "confidence": answer.confidence}
            for text, answer in zip(TEXTS, ours, strict=True)
        ],
    }


def _save(frame: pd.DataFrame, file: Path) -> None:
    if file.suffix == ".parquet":
        frame.to_parquet(file, index=False)
    elif file.suffix == ".jsonl":
        frame.to_json(file, orient="records", lines=True, force_ascii=False)
    elif file.suffix == ".txt":
        file.write_text("".join(f"{text}\n" for text in frame["text"]), encoding="utf-8")
    else:
        frame.to_csv(file, index=False)


def _load(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    if file.suffix == ".parquet":
        return [{str(key): row[key] for key in row} for row in pd.read_parquet(file).to_dict("records")]
    with file.open(encoding="utf-8", newline="") as stream:
        return [dict(row) for row in csv.DictReader(stream)]


@pytest.mark.parametrize(
    ("given", "wanted", "protocol"),
    [("in.csv", "out.jsonl", "v1"), ("in.jsonl", "out.parquet", "v2"), ("in.parquet", "out.csv", "grpc"),
     ("in.csv.gz", "out.csv", "v2"), ("in.txt", "out.jsonl", "v2")],
)  # fmt: skip
def test_a_files_rows_keep_their_columns_and_get_their_labels(
    running: Running, bundle: Path, tmp_path: Path, given: str, wanted: str, protocol: str
) -> None:
    texts = [f"{TEXTS[number % len(TEXTS)]} {number}" for number in range(BATCH_TEXTS + 10)]
    rows = pd.DataFrame({"id": [f"{number:04d}" for number in range(len(texts))], "text": texts})
    _save(rows, tmp_path / given)
    server = Server.at(protocol, _url(running, protocol), "toy")
    told = predict_file(server, tmp_path / given, tmp_path / wanted)
    found = _load(tmp_path / wanted)
    ours = Classifier(bundle).classify(texts)
    kept = ["text"] if given == "in.txt" else ["id", "text"]
    assert [list(row) for row in found] == [[*kept, "predicted_label", "confidence"]] * len(texts)
    assert [row["text"] for row in found] == texts
    assert [row["predicted_label"] for row in found] == [answer.label for answer in ours]
    assert [float(row["confidence"]) for row in found] == [answer.confidence for answer in ours]
    if "id" in kept:
        assert [row["id"] for row in found] == rows["id"].tolist()
    assert told["rows"] == len(texts) == sum(told["labels"].values())
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([given, wanted])


@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc"])
def test_rows_without_words_get_no_label_and_the_others_theirs(
    running: Running, bundle: Path, tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["goal cup", "<p></p>", None, " ", "bank profit", "\u200b", "&nbsp;"]
    _save(pd.DataFrame({"text": texts * 20}), tmp_path / "in.jsonl")
    server = Server.at(protocol, _url(running, protocol), "toy")
    told = predict_file(server, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    ours = [answer.label for answer in Classifier(bundle).classify(["goal cup", "bank profit"])]
    row = [ours[0], None, None, None, ours[1], None, None]
    assert [found["predicted_label"] for found in _load(tmp_path / "out.jsonl")] == row * 20
    assert told["unlabelled"] == 100 and sum(told["labels"].values()) == 40
    assert "100 of 140 rows have no words, and got no label" in capsys.readouterr().err


def test_a_text_of_markup_alone_is_refused_on_the_command_line(running: Running) -> None:
    done = pigeonhole("--url", running.http, "--model-name", "toy", "goal", "<b></b>")
    assert done.returncode == 2 and "text 2 has no words: remove it or fill it in" in done.stderr


def test_a_file_from_the_command_line_shows_progress_on_stderr(running: Running, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("goal cup\nbank profit\n")
    out = tmp_path / "out.csv"
    done = pigeonhole("--input", tmp_path / "in.txt", "--output", out, "--url", running.http, "--model-name", "toy")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["output"] == str(out) and "2/2" in done.stderr


def test_what_a_server_refuses_is_told_in_its_own_words(running: Running) -> None:
    for protocol in ("v1", "v2", "grpc"):
        done = pigeonhole("--url", _url(running, protocol), "--protocol", protocol, "--model-name", "other", "x")
        assert done.returncode == 2 and done.stdout == ""
        last = done.stderr.splitlines()[-1]
        assert last.startswith("pigeonhole: ") and "other" in last and "check --url, --model-name" in last
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "there is not one source of texts"),
        (["x", "--input", "a.csv", "--output", "b.csv"], "there is not one source of texts"),
        (["--input", "a.csv"], "there is not one source of texts"),
        (["x", "--output", "b.csv"], "there is not one source of texts"),
        (["x", "--protocol", "v3"], "--protocol v3 is unknown: choose v1, v2, grpc"),
        (["x", "--url", "localhost:8080"], "--url localhost:8080 is no address of a server"),
        (["x", " "], "text 2 has no words"),
        (["x", "\udcff"], "text 2 is not UTF-8"),  # a byte that the shell passes on
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str) -> None:
    done = pigeonhole(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("pigeonhole: ") and sentence in done.stderr and len(done.stderr.splitlines()) == 1


class Fake:
    """An HTTP server that answers as it is told: each request takes the next of `answers`, the last one again.

    An answer is (status, headers, body); without a body it is the right one for V2.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], str | None]] = [(200, {}, None)]
        self.asked: list[list[str]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.gate: Callable[[], None] = lambda: None

    def answer(self, texts: list[str]) -> tuple[int, dict[str, str], str]:
        with self.lock:
            self.asked.append(texts)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.gate()
        with self.lock:
            self.at_once -= 1
        outputs = [{"name": "label", "data": [text.upper() for text in texts]},
                   {"name": "confidence", "data": [0.5 for _ in texts]}]  # fmt: skip
        return status, headers, json.dumps({"outputs": outputs, "model_version": "1"}) if body is None else body


@contextmanager
def serving(fake: Fake) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, headers, answer = fake.answer(body["inputs"][0]["data"])
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(answer.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Fake, Server]]:
    monkeypatch.setattr(asking, "_WAITS", (0.01, 0.0, 0.0))
    made = Fake()
    with serving(made) as url:
        yield made, Server.at("v2", url, "toy")


def _labels(server: Server, texts: list[str]) -> list[str | None]:
    return [label for answers in ask(server, texts) for label in answers.labels]


def test_answers_come_in_order_though_several_requests_are_in_flight(fake: tuple[Fake, Server]) -> None:
    made, server = fake
    made.gate = threading.Barrier(IN_FLIGHT, timeout=60).wait  # type: ignore[assignment]
    texts = [f"text {number}" for number in range(IN_FLIGHT * BATCH_TEXTS * 2)]
    assert _labels(server, texts) == [text.upper() for text in texts]
    assert made.most_at_once == IN_FLIGHT and {len(batch) for batch in made.asked} == {BATCH_TEXTS}


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(fake: tuple[Fake, Server], status: int) -> None:
    made, server = fake
    made.answers = [(status, {}, '{"error": "full"}')] * 3 + [(200, {}, None)]
    assert _labels(server, ["a"]) == ["A"] and len(made.asked) == 4
    made.answers = [(status, {}, '{"error": "full"}')]
    with pytest.raises(ServerFailed, match=rf"answers {status} \(full\): look at the server or try later"):
        _labels(server, ["a"])
    assert len(made.asked) == 4 + 4


class _Waits(threading.Event):
    """Keeps how long it was waited for, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.told.append(timeout)
        return False


def test_the_server_says_how_long_to_wait(fake: tuple[Fake, Server]) -> None:
    made, server = fake
    waits = _Waits()
    for told in ("7", formatdate(0, usegmt=True), "soon"):
        made.answers = [(503, {"Retry-After": told}, "{}"), (200, {}, None)]
        with asking._connected(server) as once:
            assert asking._patiently(once, ["a"], waits).labels == ["A"]
    assert waits.told == [7.0, 0.0, asking._WAITS[0]]  # a date that has passed; words, which tell nothing


def test_a_wait_beyond_all_patience_is_not_begun(fake: tuple[Fake, Server]) -> None:
    made, server = fake
    made.answers = [(429, {"Retry-After": "86400"}, "later")]
    with pytest.raises(ServerFailed, match=r"answers 429 \(later\), and asks to wait 86400 s: look"):
        _labels(server, ["a"])
    assert len(made.asked) == 1


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        ((400, {}, '{"error": "text 3 is bad"}'), InputError, r"400 \(text 3 is bad\): check --url"),
        ((400, {}, '{"error": "text 7 is empty", "empty": [7]}'), ServerFailed, "this is no predictor of ours"),
        ((400, {}, '{"error": "text 7 is empty", "empty": 7}'), InputError, "text 7 is empty"),
        ((404, {}, "<html>\nnone</html>"), InputError, r"404 \(<html> none</html>\)"),
        ((500, {}, '{"error": "broken"}'), ServerFailed, r"500 \(broken\): look at the server's log"),
        ((200, {}, "<html>"), ServerFailed, "not with predictions"),
        ((200, {}, '{"outputs": []}'), ServerFailed, "not with predictions"),
        ((200, {}, '{"outputs": [{"name": "label", "data": []}, {"name": "confidence", "data": []}]}'),
         ServerFailed, "1 texts got 0 answers"),
    ],
)  # fmt: skip
def test_other_answers_end_it_at_once(
    fake: tuple[Fake, Server], answer: tuple[int, dict[str, str], str], error: type[Exception], sentence: str
) -> None:
    made, server = fake
    made.answers = [answer]
    with pytest.raises(error, match=sentence):
        _labels(server, ["a"])
    assert len(made.asked) == 1


def test_a_blank_text_is_not_sent_and_an_empty_one_not_again(fake: tuple[Fake, Server]) -> None:
    made, server = fake
    made.answers = [(400, {}, '{"error": "empty", "empty": [1]}'), (200, {}, None)]
    assert _labels(server, ["a", " ", "<b>", "c", ""]) == ["A", None, None, "C", None]
    assert made.asked == [["a", "<b>", "c"], ["a", "c"]]


def test_a_failure_in_the_midst_leaves_no_file_and_no_further_requests(
    fake: tuple[Fake, Server], tmp_path: Path
) -> None:
    made, server = fake
    made.answers = [(200, {}, None), (400, {}, "no")]
    (tmp_path / "in.txt").write_text("".join(f"text {number}\n" for number in range(100 * BATCH_TEXTS)))
    with pytest.raises(InputError):
        predict_file(server, tmp_path / "in.txt", tmp_path / "out.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["in.txt"]
    assert len(made.asked) < 100


def test_cells_of_any_kind_outlive_the_way(fake: tuple[Fake, Server], tmp_path: Path) -> None:
    given: list[dict[str, Any]] = [
        {"text": "a\u2028b", "stars": 5, "note": None, "more": [1, "x"]},
        {"text": "ü", "stars": 4.5},
    ]
    (tmp_path / "in.jsonl").write_text(
        "\ufeff" + "\r\n".join(json.dumps(row, ensure_ascii=False) for row in given), encoding="utf-8"
    )
    predict_file(fake[1], tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    said = [{"predicted_label": row["text"].upper(), "confidence": 0.5} for row in given]
    missing: list[dict[str, Any]] = [{}, {"note": None, "more": None}]
    assert _load(tmp_path / "out.jsonl") == [a | b | c for a, b, c in zip(given, missing, said, strict=True)]
    with pytest.raises(InputError, match=r"--output .*out.parquet cannot be written .*another place or kind"):
        predict_file(fake[1], tmp_path / "in.jsonl", tmp_path / "out.parquet")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_no_server_at_all_is_exit_code_3_for_every_protocol() -> None:
    for protocol in ("v1", "grpc"):
        done = pigeonhole("--url", f"http://127.0.0.1:{free_port()}", "--protocol", protocol, "x")
        assert done.returncode == 3 and done.stdout == ""
        assert done.stderr.splitlines()[-1].startswith("pigeonhole: ") and "Traceback" not in done.stderr


class _Reluctant(GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Refuses twice, then answers."""

    def __init__(self) -> None:
        self.codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]

    def ModelInfer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        if self.codes:
            context.abort(self.codes.pop(), "full")
        tensor = pb.ModelInferResponse.InferOutputTensor
        outputs = [
            tensor(name="label", contents=pb.InferTensorContents(bytes_contents=[b"A"])),
            tensor(name="confidence", contents=pb.InferTensorContents(fp32_contents=[0.5])),
        ]
        return pb.ModelInferResponse(model_version="1", outputs=outputs)


def test_grpcs_ways_to_say_busy_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_WAITS", (0.0, 0.0))
    served = grpc.server(ThreadPoolExecutor(1))
    add_GRPCInferenceServiceServicer_to_server(_Reluctant(), served)
    port = served.add_insecure_port("127.0.0.1:0")
    served.start()
    try:
        assert _labels(Server.at("grpc", f"http://127.0.0.1:{port}", "toy"), ["a"]) == ["A"]
    finally:
        served.stop(None).wait()
