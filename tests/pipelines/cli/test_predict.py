"""`pigeonhole predict` against a real server, as a process where that matters."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.running.label_file import predict_file
from predictor.client import Server
from predictor.client.client import BATCH_TEXTS
from predictor.model.bundle import Bundle
from predictor.model.classifier import Classifier
from tests.ports import free_port
from tests.predictor.conftest import Server as Running
from tests.predictor.conftest import serving

TEXTS = ["goal cup striker", "profit, bank & \u2028“shares”", "球 zzz"]


def pigeonhole(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=dict(os.environ))


@pytest.fixture(scope="module")
def running(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(bundle, tmp_path_factory.mktemp("server") / "log") as server:
        yield server


def _url(running: Running, protocol: str) -> str:
    return f"http://{running.grpc}" if protocol == "grpc" else running.http


@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc"])
def test_texts_get_the_classifiers_answers_over_every_protocol(running: Running, bundle: Path, protocol: str) -> None:
    done = pigeonhole("--url", _url(running, protocol), "--model-name", "toy", "--protocol", protocol, *TEXTS)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    ours = Classifier(bundle).classify(TEXTS)
    assert result == {
        "model": "toy",
        "model_version": Bundle.open(bundle).digest[:12],
        "predictions": [
            {"text": text, "label": answer.label, "confidence": answer.confidence}
            for text, answer in zip(TEXTS, ours, strict=True)
        ],
    }


@pytest.mark.parametrize("protocol", ["v2", "grpc"])
def test_texts_as_arguments_need_neither_kserve_nor_pandas(running: Running, protocol: str) -> None:
    absent = ["kserve", "fastapi", "kfp", "kubernetes", "numpy", "pandas", "pyarrow", "rich", "tokenizers"]
    if protocol == "v2":
        absent += ["grpc", "google.protobuf"]
    # Importing a module that is None in sys.modules fails as if it were not installed.
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); from pipelines.cli.app import main; main()"
    options = ["--url", _url(running, protocol), "--model-name", "toy", "--protocol", protocol]
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", *options, "goal"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["predictions"]) == 1


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
    result = predict_file(server, tmp_path / given, tmp_path / wanted)
    found = _load(tmp_path / wanted)
    ours = Classifier(bundle).classify(texts)
    kept = ["text"] if given == "in.txt" else ["id", "text"]
    assert [list(row) for row in found] == [[*kept, "predicted_label", "confidence"]] * len(texts)
    assert [row["text"] for row in found] == texts
    assert [row["predicted_label"] for row in found] == [answer.label for answer in ours]
    assert [float(row["confidence"]) for row in found] == [answer.confidence for answer in ours]
    if "id" in kept:
        assert [row["id"] for row in found] == rows["id"].tolist()
    assert result["rows"] == len(texts) == sum(result["labels"].values())
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([given, wanted])


@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc"])
def test_rows_without_words_get_no_label_and_the_others_theirs(
    running: Running, bundle: Path, tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["goal cup", "<p></p>", None, " ", "bank profit", "\u200b", "&nbsp;"]
    _save(pd.DataFrame({"text": texts * 20}), tmp_path / "in.jsonl")
    server = Server.at(protocol, _url(running, protocol), "toy")
    result = predict_file(server, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    ours = [answer.label for answer in Classifier(bundle).classify(["goal cup", "bank profit"])]
    row = [ours[0], None, None, None, ours[1], None, None]
    assert [found["predicted_label"] for found in _load(tmp_path / "out.jsonl")] == row * 20
    assert result["unlabelled"] == 100 and sum(result["labels"].values()) == 40
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


def test_a_servers_refusal_is_shown_in_its_own_words(running: Running) -> None:
    for protocol in ("v1", "v2", "grpc"):
        done = pigeonhole("--url", _url(running, protocol), "--protocol", protocol, "--model-name", "other", "x")
        assert done.returncode == 2 and done.stdout == ""
        last = done.stderr.splitlines()[-1]
        assert last.startswith("pigeonhole: ") and "other" in last and "check the URL, the model's name" in last
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "there is not one source of texts"),
        (["x", "--input", "a.csv", "--output", "b.csv"], "there is not one source of texts"),
        (["--input", "a.csv"], "there is not one source of texts"),
        (["x", "--output", "b.csv"], "there is not one source of texts"),
        (["x", "--protocol", "v3"], "protocol v3 is unknown: choose v1, v2, grpc"),
        (["x", "--url", "localhost:8080"], "URL localhost:8080 is no address of a server"),
        (["x", " "], "text 2 has no words"),
        (["x", "\udcff"], "text 2 is not UTF-8"),  # a byte that the shell passes on
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str) -> None:
    done = pigeonhole(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("pigeonhole: ") and sentence in done.stderr and len(done.stderr.splitlines()) == 1


def test_no_server_at_all_is_exit_code_3_for_every_protocol() -> None:
    for protocol in ("v1", "grpc"):
        done = pigeonhole("--url", f"http://127.0.0.1:{free_port()}", "--protocol", protocol, "x")
        assert done.returncode == 3 and done.stdout == ""
        assert done.stderr.splitlines()[-1].startswith("pigeonhole: ") and "Traceback" not in done.stderr
