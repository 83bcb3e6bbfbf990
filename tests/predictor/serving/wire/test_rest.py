"""Bodies of plain REST, whatever they hold."""

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.errors import Refusal
from predictor.naming import AnswerNames
from predictor.serving.jobs.status import RowResult
from predictor.serving.wire.responses import Model
from predictor.serving.wire.rest import Batch, Writer, read_batch, read_text
from predictor.serving.wire.tables import page, read_csv
from tests.predictor.serving.wire.test_requests import JSON

WRITER = Writer(AnswerNames(verb="rate", field="mood"), Model("m", "v", ["bad", "so so", "good"], ordinal=True))
TEXTS = st.lists(st.text(max_size=8) | st.sampled_from([" ", "", 'a "b", c\r\nd', "=1+1"]), min_size=1, max_size=40)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "text": JSON,
        "texts": st.lists(st.text(max_size=4) | JSON, max_size=3) | JSON,
        "async": JSON,
        "request_id": JSON,
    },
)


@given((BODIES | JSON).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
def test_a_body_is_read_or_refused_with_a_sentence(body: bytes) -> None:
    for read in (read_text, lambda given: read_batch(given, 1000), lambda given: read_csv(given, "text", False, 1000)):
        try:
            found = read(body)
        except Refusal as refusal:
            assert refusal.status in (400, 413) and "\n" not in str(refusal) and len(str(refusal)) < 400
        else:
            assert found.texts and all(isinstance(text, str) for text in found.texts)


@given(TEXTS, st.sampled_from(["\n", "\r\n"]))
def test_a_csv_file_gives_back_the_texts_that_were_written(texts: list[str], line: str) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=line, quoting=csv.QUOTE_ALL)  # else it leaves a bare \r without quotes
    writer.writerows([["id", "text"], *([n, text] for n, text in enumerate(texts))])
    assert read_csv(stream.getvalue().encode(), "text", True, 1000) == Batch(texts, asynchronous=True)


@given(TEXTS, st.data())
def test_each_answer_of_a_batch_stands_in_the_place_of_its_text(texts: list[str], data: st.DataObject) -> None:
    request = Batch(texts, "id").request()
    assert all(texts[number].strip() for number in request.numbers or ())
    assert {number for number, text in enumerate(texts) if text.strip()} == set(request.numbers or ())
    request = request.without(
        data.draw(st.lists(st.sampled_from(range(len(request.texts)))) if request.texts else st.just([]))
    )
    assert request.texts == [texts[number] for number in request.numbers or ()]
    rows = np.zeros((len(request.texts), 3), dtype=np.float32)
    rows[:, 2] = [1 / (2 + number) for number in request.numbers or ()]  # each answer tells its place
    said = json.loads(WRITER.batch(texts, request, rows, 0.5))
    assert [row["text"] for row in said["results"]] == texts
    for number, row in enumerate(said["results"]):
        if number in (request.numbers or ()):
            assert row["confidence"] == float(np.float32(1 / (2 + number))) and row["mood"] == "good"
            assert set(row["probabilities"]) == {"bad", "so so", "good"} and "mood_score" in row
        else:
            assert set(row) == {"text", "error"}


@pytest.mark.parametrize("texts", [1, 600])
def test_a_batch_over_the_part_that_is_written_at_a_time_is_whole(texts: int) -> None:
    given_ = ["a", " "] * texts
    request = Batch(given_).request()
    rows = np.full((texts, 3), 1 / 3, dtype=np.float32)
    said = json.loads(WRITER.batch(given_, request, rows, 0.0))["results"]
    assert ["error" in row for row in said] == [False, True] * texts


def test_pages_have_the_numbers_of_texts_and_the_same_values_in_both_forms() -> None:
    rows = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]], dtype=np.float32)
    results = [RowResult(rows[0], version="v1"), RowResult(None, 'a "bad", one'), RowResult(rows[1], version="v2")]
    lines = [json.loads(line) for line in page(WRITER, 7, results, "jsonl").splitlines()]
    assert [line["number"] for line in lines] == [7, 8, 9]
    assert lines[1] == {"number": 8, "error": 'a "bad", one'}
    assert (lines[0]["mood"], lines[0]["confidence"], lines[0]["model_version"]) == ("good", float(rows[0, 2]), "v1")
    table = list(csv.DictReader(io.StringIO(page(WRITER, 7, results, "csv").decode(), newline="")))
    assert [{name: value for name, value in row.items() if value} for row in table] == [
        {name: str(value) for name, value in line.items()} for line in lines
    ]
    assert page(WRITER, 0, [RowResult(None, "e")] * 2, "csv").decode().splitlines()[1:] == ["0,,,,,e", "1,,,,,e"]
