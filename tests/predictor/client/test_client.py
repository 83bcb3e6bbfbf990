"""Many texts: batches in order and at once, texts without words, several versions, and an end that is the end."""

import threading

import pytest

from predictor import client
from predictor.client import Answers, Server, ask
from predictor.client.client import BATCH_TEXTS, IN_FLIGHT
from predictor.errors import InputError
from tests.fakes.predictor import Fake


def test_the_example_of_the_package_runs(fake: tuple[Fake, Server], capsys: pytest.CaptureFixture[str]) -> None:
    lines = (client.__doc__ or "").splitlines()
    example = "\n".join(line.removeprefix("    ") for line in lines if line.startswith("    "))
    exec(example.replace("http://localhost:8080", fake[1].url), {})
    expected = "['SHARES FELL 7 PERCENT.', 'THE KEEPER SAVED TWO PENALTIES.'] [0.5, 0.5] 1\n"
    assert capsys.readouterr().out == expected


def test_answers_come_in_order_though_several_requests_are_in_flight(fake: tuple[Fake, Server]) -> None:
    made, server = fake
    made.gate = threading.Barrier(IN_FLIGHT, timeout=60).wait
    texts = [f"text {number}" for number in range(IN_FLIGHT * BATCH_TEXTS * 2)]
    assert Answers.joined(ask(server, texts)).labels == [text.upper() for text in texts]
    assert made.most_at_once == IN_FLIGHT and {len(batch) for batch in made.asked} == {BATCH_TEXTS}


def test_a_blank_text_is_not_sent_and_an_empty_one_not_again(fake: tuple[Fake, Server]) -> None:
    made, server = fake
    made.answers = [(400, {}, '{"error": "empty", "empty": [1]}'), (200, {}, None)]
    answers = Answers.joined(ask(server, ["a", " ", "<b>", "c", ""]))
    assert answers == Answers(["A", None, None, "C", None], [0.5, None, None, 0.5, None], "1")
    assert made.asked == [["a", "<b>", "c"], ["a", "c"]]


def test_texts_that_are_all_blank_are_answered_without_a_request(fake: tuple[Fake, Server]) -> None:
    made, server = fake
    assert list(ask(server, [" ", ""])) == [Answers([None, None], [None, None], "")]
    assert list(ask(server, [])) == [] and made.asked == []


def test_a_refused_batch_ends_the_others(fake: tuple[Fake, Server]) -> None:
    made, server = fake
    made.answers = [(200, {}, None), (400, {}, "no")]
    with pytest.raises(InputError):
        list(ask(server, ["text"] * 100 * BATCH_TEXTS))
    assert len(made.asked) < 100


def test_joined_answers_name_each_version_once() -> None:
    batches = [Answers(["A"], [0.5], "2"), Answers([None], [None], ""), Answers(["B"], [0.7], "1")]
    assert Answers.joined([*batches, batches[0]]) == Answers(["A", None, "B", "A"], [0.5, None, 0.7, 0.5], "1, 2")


@pytest.mark.parametrize(
    ("protocol", "url", "sentence"),
    [
        ("v3", "", "protocol v3 is unknown: choose v1, v2, grpc"),
        ("v2", "localhost:8080", "URL localhost:8080 is no address of a server: give one such as http://localhost"),
        ("v2", "http://", "is no address"),
        ("grpc", "http://host:port", "is no address"),
    ],
)
def test_a_server_that_cannot_be_asked_is_refused(protocol: str, url: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Server.at(protocol, url, "toy")


def test_a_server_without_a_url_is_the_one_that_serve_starts() -> None:
    assert Server.at("grpc", "", "toy") == Server("grpc", "http://localhost:8081", "toy")
    assert Server.at("v1", "https://host/news/", "toy").url == "https://host/news"
