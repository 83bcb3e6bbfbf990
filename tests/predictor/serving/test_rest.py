"""Plain REST over a socket: what V1 answers, in the names of the task; jobs; records; refusals."""

import csv
import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from predictor.model.bundle import Bundle, seal
from predictor.naming import AnswerNames
from predictor.serving.wire.openapi import document
from tests.conftest import BUSINESS, SPORTS
from tests.predictor.conftest import Server, serving
from tests.predictor.serving.asking import TEXTS, many, metric
from tests.predictor.serving.prediction_log.test_server_log import read, until_stored

BLANK = ["", " \n\t", "<br/>", "\u200b", "&nbsp;"]
"""Empty after cleaning, two of them by sight."""
WITH_JOBS = "tests.fakes.jobs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def running(bundle: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Reviews with an order, jobs in memory and a prediction log."""
    work = tmp_path_factory.mktemp("server")
    shutil.copytree(bundle, work / "bundle")
    names = AnswerNames(verb="analyze", field="sentiment")
    seal(work / "bundle", Bundle.open(bundle).spec.model_copy(update={"ordinal": True, "answer": names}))
    options = ("--log-url", str(folder), "--log-interval", "0.1")
    with serving(work / "bundle", work / "log", *options, program=WITH_JOBS) as server:
        yield server


def post(server: Server, path: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.http}/v1/{path}", json=body, headers=headers, timeout=60)


def v1_rows(server: Server, texts: list[str]) -> list[dict[str, Any]]:
    asked = {"instances": texts, "parameters": {"top_k": 3}}
    rows: list[dict[str, Any]] = post(server, "models/toy:predict", asked).raise_for_status().json()["predictions"]
    return rows


def same(ours: dict[str, Any], v1: dict[str, Any]) -> bool:
    """Whether an answer has the numbers of a V1 prediction, bit for bit."""
    shares = {each["label"]: each["confidence"] for each in v1["top_k"]}
    whole = (ours["sentiment"], ours["confidence"], ours["sentiment_score"], ours["probabilities"])
    return whole == (v1["label"], v1["confidence"], v1["score"], shares)


def until(server: Server, job: str, state: str) -> dict[str, Any]:
    for _ in range(600):
        said: dict[str, Any] = httpx.get(f"{server.http}/v1/analyze/status/{job}").raise_for_status().json()
        if said["status"] == state:
            return said
        time.sleep(0.05)
    raise AssertionError(f"the job is {said}")


def test_one_text_has_v1s_answer_in_the_names_of_the_task(running: Server, folder: Path) -> None:
    for text, row in zip(TEXTS, v1_rows(running, TEXTS), strict=True):
        got = post(running, "analyze", {"text": text, "request_id": f"mine {text}"}).raise_for_status()
        said = got.json()
        assert list(said) == [
            "request_id", "text", "sentiment", "confidence", "sentiment_score", "probabilities", "processing_time",
            "model_version",
        ]  # fmt: skip
        assert same(said, row) and said["text"] == text and said["request_id"] == f"mine {text}"
        assert said["processing_time"] >= 0
    new = post(running, "analyze", {"text": "goal"})
    named = post(running, "analyze", {"text": "goal cup", "request_id": None}, **{"x-request-id": "theirs"})
    assert new.json()["request_id"] == new.headers["x-request-id"] and named.json()["request_id"] == "theirs"
    until_stored(running)
    rows = read(folder)
    assert rows["theirs"]["text"] == "goal cup" and rows["theirs"]["label"] == named.json()["sentiment"]
    assert new.json()["request_id"] in rows


def test_an_empty_text_of_a_batch_is_an_error_and_the_others_are_answered(running: Server, folder: Path) -> None:
    texts = [BLANK[0], *TEXTS[:2], *BLANK[1:], *TEXTS[2:], TEXTS[0]]
    got = post(running, "analyze/batch", {"texts": texts, "request_id": "many"}).raise_for_status().json()
    assert [row["text"] for row in got["results"]] == texts and got["request_id"] == "many"
    kept = [place for place, text in enumerate(texts) if text not in BLANK]
    for place, row in zip(kept, v1_rows(running, [texts[place] for place in kept]), strict=True):
        assert same(got["results"][place], row)
    failed = [row for place, row in enumerate(got["results"]) if place not in kept]
    assert all(set(row) == {"text", "error"} and "empty after cleaning" in row["error"] for row in failed)
    until_stored(running)
    rows = read(folder)
    logged = {name: row["text"] for name, row in rows.items() if name.startswith("many")}
    assert logged == {f"many/{place}": texts[place] for place in kept}
    label = {"feedback": [{"id": f"many/{kept[-1]}", "label": "World"}]}
    assert post(running, "models/toy:feedback", label).json() == {"accepted": 1}


def test_a_batch_of_empty_texts_is_answered_with_errors_only(running: Server) -> None:
    got = post(running, "analyze/batch", {"texts": BLANK * 200}).raise_for_status().json()
    assert [set(row) for row in got["results"]] == [{"text", "error"}] * 1000


def test_a_batch_of_many_texts_is_v1s(running: Server) -> None:
    texts = [text for pair in zip(many(600), ["<i></i>"] * 600, strict=True) for text in pair]
    got = post(running, "analyze/batch", {"texts": texts}).raise_for_status().json()["results"]
    assert ["error" in row for row in got] == [False, True] * 600
    assert all(same(ours, v1) for ours, v1 in zip(got[::2], v1_rows(running, texts[::2]), strict=True))


def test_a_csv_file_is_a_batch(running: Server) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerows([["id", "body"], *([number, text] for number, text in enumerate(["", *TEXTS]))])
    for content in (stream.getvalue().encode(), b"\xef\xbb\xbf" + stream.getvalue().replace("\r\n", "\n").encode()):
        got = httpx.post(
            f"{running.http}/v1/analyze/batch?column=body", content=content,
            headers={"content-type": "text/csv; charset=utf-8"},
        ).raise_for_status()  # fmt: skip
        rows = got.json()["results"]
        assert [row["text"] for row in rows] == ["", *TEXTS] and "error" in rows[0]
        assert all(same(ours, v1) for ours, v1 in zip(rows[1:], v1_rows(running, TEXTS), strict=True))


def test_a_job_is_taken_watched_and_read_in_pages(running: Server) -> None:
    texts = [*TEXTS, *BLANK, *TEXTS]
    taken = post(running, "analyze/batch", {"texts": texts, "async": True})
    job = taken.json()["request_id"]
    assert taken.status_code == 202 and taken.headers["location"] == f"/v1/analyze/status/{job}"
    assert list(taken.json()) == ["request_id", "status", "total", "estimated_time"]
    assert (taken.json()["status"], taken.json()["total"]) == ("queued", len(texts))
    said = until(running, job, "done")
    assert (said["done"], said["failed"], said["progress"]) == (len(texts), len(BLANK), 1.0)
    rows, place = [], f"/v1/analyze/results/{job}?limit=4"
    while place:
        got = httpx.get(running.http + place).raise_for_status()
        assert got.headers["content-type"] == "application/jsonl"
        rows += [json.loads(line) for line in got.text.splitlines()]
        place = got.links["next"]["url"] if "next" in got.links else ""
    assert [row["number"] for row in rows] == list(range(len(texts)))
    want = v1_rows(running, TEXTS)
    for row, v1 in zip(rows[: len(TEXTS)], want, strict=True):
        assert (row["sentiment"], row["confidence"], row["sentiment_score"]) == (
            v1["label"],
            v1["confidence"],
            v1["score"],
        )
    assert [set(row) for row in rows[len(TEXTS) : len(TEXTS) + len(BLANK)]] == [{"number", "error"}] * len(BLANK)
    table = httpx.get(f"{running.http}/v1/analyze/results/{job}?format=csv&offset=4&limit=3")
    assert table.headers["content-type"].startswith("text/csv")
    assert f"/v1/analyze/results/{job}?format=csv&offset=7&limit=3" in table.headers["link"]
    lines = list(csv.DictReader(io.StringIO(table.text)))
    assert [line["number"] for line in lines] == ["4", "5", "6"]
    assert lines[0]["sentiment"] == rows[4]["sentiment"] and float(lines[0]["confidence"]) == rows[4]["confidence"]
    assert lines[1]["sentiment"] == "" and "empty" in lines[1]["error"]


def test_a_csv_file_may_be_a_job(running: Server) -> None:
    content = b"text\r\ngoal cup\r\nprofit bank\r\n"
    got = httpx.post(
        f"{running.http}/v1/analyze/batch?async=true", content=content, headers={"content-type": "text/csv"}
    )
    assert (got.status_code, got.json()["total"]) == (202, 2)
    assert until(running, got.json()["request_id"], "done")["failed"] == 0


def test_a_job_that_is_cancelled_has_no_results(running: Server) -> None:
    job = post(running, "analyze/batch", {"texts": ["goal", "hold"], "async": True}).json()["request_id"]
    until(running, job, "running")
    early = httpx.get(f"{running.http}/v1/analyze/results/{job}")
    assert early.status_code == 409 and "until it is done" in early.json()["error"]
    assert httpx.delete(f"{running.http}/v1/analyze/status/{job}").json()["status"] == "cancelled"
    assert httpx.delete(f"{running.http}/v1/analyze/status/{job}").json()["status"] == "cancelled"
    assert httpx.get(f"{running.http}/v1/analyze/results/{job}").status_code == 409
    assert post(running, "analyze", {"text": "goal"}).status_code == 200


ONE, BATCH, CSV = "analyze", "analyze/batch", "text/csv"


@pytest.mark.parametrize(
    ("path", "content", "kind", "status", "words"),
    [
        (ONE, b"{", "", 400, "the body is not JSON"),
        (ONE, b"[]", "", 400, "the body is a JSON array"),
        (ONE, b"{}", "", 400, "the body has no 'text'"),
        (ONE, b'{"text": 5}', "", 400, "'text' is a JSON number"),
        (ONE, b'{"text": " <b></b>"}', "", 400, "text 0 is empty after cleaning"),
        (ONE, b'{"text": "goal", "request_id": 5}', "", 400, "'request_id' is 5"),
        (ONE, b'{"text": "goal", "request_id": "' + b"x" * 1025 + b'"}', "", 400, "at most 1024 characters"),
        (ONE, b'{"text": "goal", "more": [' + b"1," * 20_000 + b"1]}", "", 413, "more values than 1 texts need"),
        (BATCH, b"{}", "", 400, "the body has no list 'texts'"),
        (BATCH, b'{"texts": "goal"}', "", 400, "the body has no list 'texts'"),
        (BATCH, b'{"texts": []}', "", 400, "the list 'texts' is empty"),
        (BATCH, b'{"texts": ["goal", null]}', "", 400, "text 1 is a JSON null"),
        (BATCH, b'{"texts": ["goal"], "async": "yes"}', "", 400, "parameter async is 'yes'"),
        (BATCH, b'{"texts": [' + b'"a",' * 999_999 + b'"a"]}', "", 413, "send its texts in several requests"),
        (BATCH, json.dumps({"texts": ["a"] * 6000, "async": True}).encode(), "", 413, "send them in several jobs"),
        (BATCH, b"", CSV, 400, "has no header"),
        (BATCH, b"id,body\n1,goal\n", CSV, 400, "has no column 'text', but 'id', 'body'"),
        (BATCH + "?column=b%C3%B6dy", b"id,body\n1,goal\n", CSV, 400, "has no column 'b\u00f6dy'"),
        (BATCH, b"text\n", CSV, 400, "has a header and no rows"),
        (BATCH, b"id,text\n1,goal\n2\n", CSV, 400, "line 3 of the CSV file has 1 fields and the header 2"),
        (BATCH, b'text\n"goal\n', CSV, 400, "cannot be read"),
        (BATCH, b"text\n\xff\n", CSV, 400, "not UTF-8"),
        (BATCH + "?async=1", b"text\ngoal\n", CSV, 400, "parameter async is '1'"),
        (BATCH + "?async=true&async=true", b"text\ngoal\n", CSV, 400, "the URL has async 2 times"),
        (BATCH, b"text\n" + b"a\n" * 999_999, CSV, 413, "over 131072 texts"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_a_sentence(
    path: str, content: bytes, kind: str, status: int, words: str, running: Server
) -> None:
    headers = {"content-type": kind} if kind else {}
    got = httpx.post(f"{running.http}/v1/{path}", content=content, headers=headers, timeout=60)
    assert got.status_code == status and words in got.json()["error"], got.text
    assert post(running, "analyze", {"text": "goal"}).status_code == 200


def test_jobs_are_known_by_their_ids_alone(running: Server) -> None:
    for job in ("0" * 32, "x", "a.b", "ö", "a" * 65):
        for kind in ("status", "results"):
            got = httpx.get(f"{running.http}/v1/analyze/{kind}/{job}")
            assert got.status_code == 404 and got.json()["error"].startswith("there is no such job"), got.text
        assert httpx.delete(f"{running.http}/v1/analyze/status/{job}").status_code == 404
    assert httpx.get(f"{running.http}/v1/analyze/status/").status_code == 404
    assert httpx.get(f"{running.http}/v1/analyze/status/a/b").status_code == 404


def test_pages_of_results_have_bounds(running: Server) -> None:
    job = post(running, "analyze/batch", {"texts": ["goal"], "async": True}).json()["request_id"]
    until(running, job, "done")
    for query, words in (
        ("format=xml", "parameter format is 'xml'"),
        ("limit=0", "parameter limit is '0'"),
        ("limit=100000", "from 1 to 10000"),
        ("limit=-1", "parameter limit"),
        ("offset=1", "parameter offset is 1, and the job has 1 texts"),
        ("offset=x", "parameter offset is 'x'"),
        ("&".join(f"a{n}=1" for n in range(30)), "over 20 parameters"),
    ):
        got = httpx.get(f"{running.http}/v1/analyze/results/{job}?{query}")
        assert got.status_code == 400 and words in got.json()["error"], got.text


def test_other_methods_are_refused_and_the_right_ones_named(running: Server) -> None:
    for method, path, allow in (
        ("GET", "analyze", "POST"),
        ("OPTIONS", "analyze/batch", "POST"),
        ("POST", "analyze/status/a", "GET, DELETE"),
        ("DELETE", "analyze/results/a", "GET"),
        ("HEAD", "analyze", "POST"),
    ):
        got = httpx.request(method, f"{running.http}/v1/{path}")
        assert (got.status_code, got.headers["allow"]) == (405, allow)
    assert post(running, "classify", {"text": "goal"}).status_code == 404


def test_requests_are_counted_and_only_answers_to_texts_are_timed(running: Server) -> None:
    def counts() -> dict[str, float]:
        found = metric(running, "text_classifier_")
        code = {key.split('code="')[1][:3]: value for key, value in found.items() if 'protocol="rest"' in key}
        return {**code, "timed": next(value for key, value in found.items() if "latency_seconds_count" in key)}

    before = counts()
    post(running, "analyze", {"text": "goal"})
    post(running, "analyze/batch", {"texts": ["goal", ""]})
    post(running, "analyze", {})
    job = post(running, "analyze/batch", {"texts": ["goal"], "async": True}).json()["request_id"]
    httpx.get(f"{running.http}/v1/analyze/results/{'0' * 32}")
    httpx.get(f"{running.http}/v1/analyze/status/{job}")
    httpx.post(f"{running.http}/v1/analyze", content=b"x", headers={"content-encoding": "gzip"})
    after = counts()
    grown = {code: after[code] - before[code] for code in after if after[code] != before[code]}
    assert grown == {"200": 3, "202": 1, "400": 1, "404": 1, "415": 1, "timed": 2}


def test_without_redis_jobs_are_off_and_the_rest_is_on(server: Server) -> None:
    texts = {"texts": [SPORTS, BUSINESS]}
    rows = post(server, "sort/batch", texts).raise_for_status().json()["results"]
    assert [row["desk"] for row in rows] == ["Sports", "Business"] and "desk_score" not in rows[0]
    off = [post(server, "sort/batch", {**texts, "async": True}), httpx.get(f"{server.http}/v1/sort/status/{'0' * 32}")]
    for got in off:
        assert (got.status_code, "retry-after" in got.headers) == (503, False)
        assert got.json()["error"] == "asynchronous jobs are off: start the server with --redis-url"


def test_a_deadline_that_passes_is_a_504(running: Server) -> None:
    asked = {"texts": many(2000)}
    got = post(running, "analyze/batch", asked, **{"x-envoy-expected-rq-timeout-ms": "1"})
    assert got.status_code == 504


def test_the_answers_are_as_the_page_says(running: Server) -> None:
    from jsonschema import Draft202012Validator

    page = httpx.get(f"{running.http}/openapi.json").json()
    assert page["paths"]["/v1/analyze"] and "sentiment_score" in json.dumps(page["components"]["schemas"]["RestAnswer"])
    assert page["paths"].keys() >= document("toy", "v", ["a", "b"], names=AnswerNames(verb="analyze"))["paths"].keys()

    def check(schema: str, body: Any) -> None:
        whole = {"$ref": f"#/components/schemas/{schema}", "components": page["components"]}
        assert list(Draft202012Validator(whole).iter_errors(body)) == []

    check("RestAnswer", post(running, "analyze", {"text": "goal"}).json())
    check("RestAnswers", post(running, "analyze/batch", {"texts": ["goal", ""]}).json())
    taken = post(running, "analyze/batch", {"texts": ["goal", ""], "async": True}).json()
    check("RestTaken", taken)
    check("RestProgress", until(running, taken["request_id"], "done"))
    rows = httpx.get(f"{running.http}/v1/analyze/results/{taken['request_id']}").text.splitlines()
    for row in rows:
        check("RestRow", json.loads(row))
