"""Rows written by a model behind a real HTTP server: what is taken, what it costs, and servers that answer badly."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.dataset import Dataset
from components.data.synthesis.answers import texts_in
from components.data.synthesis.endpoint import Answer, Endpoint, read_key
from components.data.synthesis.generate import ANSWERS_FILE, Wish, generate
from components.data.synthesis.rows import ROWS_FILE, echoes
from predictor.client import retry
from predictor.errors import InputError, Unavailable
from tests.components.data.synthesis.datasets import dataset
from tests.components.data.synthesis.model_server import Model, completion, good, model_served

KEY = "sk-hidden-from-everybody"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setattr(retry, "_PAUSES", (0.0, 0.0))
    with model_served() as served:
        yield served


@pytest.fixture
def data() -> Dataset:
    return dataset(Sports=40, World=6, Technik=5)


def made(model: Model, data: Dataset, out: Path, key: str = "", timeout: float = 20, **wish: int) -> dict[str, Any]:
    endpoint = Endpoint(model.url, "tiny", key, timeout)
    return generate(data, out, endpoint, Wish(**{"target": 30, **wish}), lambda line: None)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ROWS_FILE).read_text(encoding="utf-8").splitlines()]


def lines(*texts: object, label: str = "World") -> str:
    return "\n".join(json.dumps({"text": text, "label": label}) for text in texts)


def test_each_class_gets_its_rows_and_each_row_its_mark(model: Model, data: Dataset, tmp_path: Path) -> None:
    report = made(model, data, tmp_path)
    rows = rows_of(tmp_path)
    assert Counter(row["label"] for row in rows) == report["rows_by_label"] == {"World": 24, "Technik": 25}
    assert report["requests"] == len(model.asked) == 6 and report["tokens"] == 600 and report["stopped"] == ""
    host = model.url.removeprefix("http://").removesuffix("/v1")
    assert {row["source"] for row in rows} == {f"synthetic:tiny@{host}"} and all(
        row["synthetic"] is True for row in rows
    )
    assert len({row["id"] for row in rows}) == len(rows)
    body = model.asked[0]
    assert body["model"] == "tiny" and body["max_tokens"] == 4000
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_examples_are_train_rows_of_the_class_and_none_if_none_may_be_shown(
    model: Model, data: Dataset, tmp_path: Path
) -> None:
    made(model, data, tmp_path / "shown", examples=2)
    for body in model.asked:
        shown = [json.loads(line) for line in body["messages"][1]["content"].splitlines() if line.startswith("{")]
        assert len(shown) == 2 and {row["text"] for row in shown} <= set(data.train.texts)
        assert {row["label"] for row in shown} < {"World", "Technik"} and len({row["label"] for row in shown}) == 1
    model.asked.clear()
    made(model, data, tmp_path / "private", examples=0)
    said = json.dumps(model.asked, ensure_ascii=False)
    assert model.asked and not [text for text in data.train.texts if text[:20] in said]


def test_the_key_goes_to_the_server_and_nowhere_else(
    model: Model, data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(model, data, tmp_path, key=KEY, requests=1)
    assert model.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(Endpoint(model.url, "tiny", KEY))
    model.reply = lambda number, asked: (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    with pytest.raises(InputError, match=r"answers 401 \(Incorrect API key provided: \*\*\*\): check --url") as error:
        made(model, data, tmp_path, key=KEY)
    assert KEY not in str(error.value) + "".join(capsys.readouterr())
    assert not [file for file in tmp_path.iterdir() if KEY in file.read_text()]


def test_what_was_paid_for_is_not_asked_again(model: Model, data: Dataset, tmp_path: Path) -> None:
    first = made(model, data, tmp_path, requests=3)
    assert len(model.asked) == first["requests"] == 3 and first["stopped"] == "the budget of 3 requests is spent"
    file = tmp_path / ANSWERS_FILE
    file.write_bytes(file.read_bytes()[:-20])  # killed while it wrote the third
    again = made(model, data, tmp_path, requests=100)
    assert len(model.asked) == 3 + 4 and again["requests"] == 6 and again["missing"] == {}
    texts = [row["text"] for row in rows_of(tmp_path)]
    assert len(set(texts)) == len(texts) == 49
    assert made(model, data, tmp_path) == again and len(model.asked) == 7
    with pytest.raises(InputError, match=r"answers to other questions \(other: examples\)"):
        made(model, data, tmp_path, examples=0)


def test_no_question_is_asked_that_may_cost_more_than_is_left(model: Model, data: Dataset, tmp_path: Path) -> None:
    report = made(model, data, tmp_path, tokens=1_500, answer_tokens=1_000)
    assert 1 <= len(model.asked) < 6 and report["tokens"] <= 1_500
    assert report["stopped"] == "the budget of 1,500 tokens has no room for another question"


def test_busy_and_silent_servers_are_asked_again(model: Model, data: Dataset, tmp_path: Path) -> None:
    answers: dict[int, Any] = {
        1: (429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}), 2: (503, b"<html>"), 4: None,
    }  # fmt: skip
    model.reply = lambda number, asked: answers.get(number, good(number, asked)) if number != 4 else None
    report = made(model, data, tmp_path, timeout=1.0)
    assert report["missing"] == {} and len(model.asked) == 6 + 3
    model.reply = lambda number, asked: (500, {"error": "broken"})
    with pytest.raises(Unavailable, match=r"answers 500 \(broken\)"):
        made(model, data, tmp_path / "never")
    assert json.loads((tmp_path / "never/synthetic.json").read_text())["stopped"]


def test_bad_answers_are_counted_by_reason(model: Model, data: Dataset, tmp_path: Path) -> None:
    example, known = data.train.texts[40], data.test.texts[2]
    assert example.startswith("Delegates") and known.startswith("Delegates")
    replies: list[Any] = [
        (200, b"this is no JSON"),
        (200, {"object": "chat.completion", "choices": []}),
        (200, completion(None, finish="content_filter")),
        (200, completion("Here are your texts:\n1. A text about islands")),
        (200, completion(lines("A treaty nobody has signed", "", 7) + "\n" + lines("A goal", label="Sports"))),
        (200, completion(lines(known, "Said and done", "said AND done") + "\n[1, 2]")),
        (200, completion('```json\n{"text": "Fenced off from the talks"}\n```')),
        (200, completion('<think>{"text": "No"}</think>' + lines("Thought over in the capital"))),
        (200, completion(json.dumps({"rows": [{"text": "One of a list", "label": "world "}]}))),
        (200, completion(lines("A whole row of the answer") + '\n{"text": "cut in the mid', finish="length")),
        (200, completion(lines(f"{example} That much is known."))),
    ]
    model.reply = lambda number, asked: replies[min(number, len(replies)) - 1]
    small = dataset(Sports=40, World=6)
    report = made(model, small, tmp_path, rows=4, examples=6)
    texts = [row["text"] for row in rows_of(tmp_path)]
    assert texts == [
        "A treaty nobody has signed", "Said and done", "Fenced off from the talks", "Thought over in the capital",
        "One of a list", "A whole row of the answer",
    ]  # fmt: skip
    rejected = report["rejected"]
    assert rejected.pop("echo of an example") >= 2, "the known text is one, too"
    assert rejected == {
        "answer without content": 3, "line that is no JSON object": 3, "empty": 1, "row without text": 1,
        "row of another label": 1, "copy of a row": 1, "row cut off": 1,
    }  # fmt: skip


def test_a_model_that_brings_nothing_is_given_up(model: Model, data: Dataset, tmp_path: Path) -> None:
    model.reply = lambda number, asked: (200, completion("I cannot help with that."))
    report = made(model, data, tmp_path)
    assert len(model.asked) == 5 and report["rows"] == 0
    assert report["stopped"] == "the last 5 answers held no usable row (line that is no JSON object: 5)"


def test_a_server_that_knows_the_new_name_of_the_limit_gets_it(model: Model, data: Dataset, tmp_path: Path) -> None:
    def reply(number: int, asked: dict[str, Any]) -> Any:
        if "max_tokens" in asked:
            return 400, {"error": {"message": "Unsupported parameter: use 'max_completion_tokens' instead."}}
        return good(number, asked)

    model.reply = reply
    assert made(model, data, tmp_path)["missing"] == {}
    assert [("max_tokens" in body) for body in model.asked] == [True] + [False] * 6


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000/v1",
        "ftp://host/v1",
        "https://user:key@host/v1",
        "https://h/v1?key=1",
        "http://[h/v1",
        "http://h:99999/v1",
    ],
)
def test_an_address_that_is_none_or_holds_a_key_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"^--url is no address of a model"):
        Endpoint(url, "tiny")


@pytest.mark.parametrize("key", ["k\u00e9y-hidden", "hidden\nX-Header: 1"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(key: str) -> None:
    with pytest.raises(InputError, match="characters that no header can hold") as error:
        Endpoint("http://localhost:1/v1", "tiny", key)
    assert "hidden" not in str(error.value)


def test_a_file_with_a_key_holds_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    assert read_key(tmp_path / "key") == "from-file"
    (tmp_path / "key").write_text("two\nlines")
    for file in (tmp_path / "key", tmp_path / "none"):
        with pytest.raises(InputError, match="give a file with the key alone"):
            read_key(file)


@given(
    content=st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["text", "label", "a"]), inner),
        ).map(json.dumps),
    ),
    cut=st.booleans(),
)
def test_no_answer_breaks_the_reader(content: str, cut: bool) -> None:
    rejected: Counter[str] = Counter()
    for text in texts_in(Answer(content, 1, cut), "a label", rejected):
        text.encode()
        assert "\0" not in text
    assert all(count > 0 for count in rejected.values())


def test_an_echo_is_a_text_that_is_in_an_example_or_around_one() -> None:
    example = "The minister said on Monday that the islands would be handed over within a year."
    assert echoes(f"{example} Nobody was surprised.", [example]) and echoes(example[:40], [example])
    assert echoes(example.replace("Monday", "Friday"), ["other", example])
    assert not echoes("A court in Oslo has stopped the sale of the harbour to a foreign company.", [example])
    assert not echoes(example, [])
