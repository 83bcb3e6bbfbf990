"""`pigeonhole predict --explain` against a real server: JSON in a pipe, words in colour at a terminal."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from pipelines.running.explain_texts import explain_texts, highlighted
from predictor.client import Server
from predictor.errors import InputError, Unavailable
from tests.fakes.predictor import Fake
from tests.fakes.predictor import serving as faking
from tests.pipelines.cli.test_predict import pigeonhole
from tests.predictor.conftest import Server as Running
from tests.predictor.conftest import serving

SURE = " ".join(["cup league coach"] * 8)
"""What the linear model answers."""
WORDS = [
    {"text": "profit\x1b[2J", "start": 0, "end": 10, "attribution": 2.0},
    {"text": "goal", "start": 11, "end": 15, "attribution": -1.0},
    {"text": "of", "start": 16, "end": 18, "attribution": 0.01},
]
EXPLANATION: dict[str, Any] = {
    "text": "profit\x1b[2J goal of", "label": "Busi[red]ness", "confidence": 0.75, "stage": "transformer",
    "method": "m", "gap": 0.004, "words": WORDS, "explained": {"label": "Sports", "same_label": False},
}  # fmt: skip


@pytest.fixture(scope="module")
def running(cascade_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(cascade_bundle, tmp_path_factory.mktemp("server") / "log", "--timeout", "300") as server:
        # The first explanation loads PyTorch, for which the client may not wait long enough beside other tests.
        body = {"instances": ["zzz"]}
        httpx.post(f"{server.http}/v1/models/toy:explain", json=body, timeout=300).raise_for_status()
        yield server


def test_a_pipe_gets_what_the_server_says(running: Running) -> None:
    texts = [SURE, "zzz &amp; goal"]
    done = pigeonhole("--url", running.http, "--model-name", "toy", "--explain", *texts)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [found["stage"] for found in said["explanations"]] == ["linear", "transformer"]
    assert [found["text"] for found in said["explanations"]] == [SURE, "zzz & goal"]
    assert said["model"] == "toy" and len(said["model_version"]) == 12


def test_a_terminal_gets_words_bars_and_the_share_that_is_missing(running: Running) -> None:
    options = ["--url", running.http, "--model-name", "toy", "--explain", "-o", "table"]
    done = pigeonhole(*options, SURE)
    assert done.returncode == 0, done.stderr
    assert "Sports" in done.stdout and "█" in done.stdout and "linear model" in done.stdout
    assert "0.0% of the sum is missing" in " ".join(done.stdout.split())


def test_strong_words_are_coloured_and_nothing_of_a_text_is_obeyed() -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, color_system="standard", width=100, highlight=False)
    console.print(highlighted({"explanations": [EXPLANATION]}))
    shown = terminal.getvalue()
    assert "\x1b[2J" not in shown and "Busi[red]ness  75.0%" in shown
    assert "\x1b[1;32mprofit [2J\x1b[0m \x1b[1;31mgoal\x1b[0m of" in shown
    assert "the weights explained here say Sports" in shown and "+2.00" in shown and "-1.00" in shown
    assert "0.4% of the sum is missing" in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--explain", "--input", "a.csv", "--output", "b.csv"], "--explain and --input do not go together"),
        (["--explain", "--protocol", "grpc", "x"], "--explain and --protocol grpc do not go together"),
        (["--explain", " "], "text 1 has no words"),
        (["--explain"], "there is not one source of texts"),
    ],
)
def test_wrong_use_is_one_sentence(arguments: list[str], sentence: str) -> None:
    done = pigeonhole(*arguments)
    assert done.returncode == 2 and sentence in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_text_of_markup_alone_is_refused(running: Running) -> None:
    with pytest.raises(InputError, match="text 2 has no words"):
        explain_texts(Server.at("v2", running.http, "toy"), ["goal", "<b></b>"])


def test_a_server_without_pytorch_says_what_to_do_and_another_one_is_none() -> None:
    fake = Fake()
    with faking(fake) as url:
        server = Server.at("v2", url, "toy")
        fake.answers = [(501, {}, '{"error": "explanations need PyTorch: serve it so"}')]
        with pytest.raises(InputError, match=r"501 \(explanations need PyTorch: serve it so\)$"):
            explain_texts(server, ["goal"])
        fake.answers = [(200, {}, '{"predictions": []}')]
        with pytest.raises(Unavailable, match="not with predictions"):
            explain_texts(server, ["goal"])
        good = json.dumps({"explanations": [EXPLANATION], "model_version": "1"})
        fake.answers = [(503, {"retry-after": "0"}, '{"error": "another text"}'), (200, {}, good)]
        assert explain_texts(server, ["goal"])["explanations"] == [EXPLANATION]
