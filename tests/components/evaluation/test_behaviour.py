import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.data.behaviour.changes import CHANGES
from components.data.behaviour.lines import USUAL_FILE, Line, read_behaviour
from components.evaluation.behaviour import run_behaviour
from predictor.errors import InputError
from predictor.model.classifier import Classifier
from predictor.model.text import clean

LABELS = ["quiet", "loud"]
TEXTS = [f"Anna said number {row} & more words here" for row in range(50)]


class LoudWhereUpper(Classifier):
    """A model that listens to the share of capitals, and remembers what it was asked."""

    def __init__(self) -> None:
        self.labels = LABELS
        self.asked: list[str] = []

    def probabilities(self, texts: Sequence[str], done: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        self.asked += texts
        shares = np.array([sum(map(str.isupper, text)) / max(1, len(text)) for text in texts], dtype=np.float32)
        return np.stack([1 - shares, shares], axis=1)


def test_a_model_that_minds_case_fails_only_the_test_of_case() -> None:
    scores = {score.name: score for score in run_behaviour(read_behaviour(USUAL_FILE), LoudWhereUpper(), TEXTS, 1)}
    assert scores["upper case"].held == 0 and scores["upper case"].rows == 50
    assert scores["upper case"].failures[0] == scores["upper case"].failures[0].upper()
    assert all(score.held == score.rows > 0 for name, score in scores.items() if name != "upper case")


def test_a_text_is_asked_once_whatever_the_number_of_changes() -> None:
    model = LoudWhereUpper()
    run_behaviour(read_behaviour(USUAL_FILE), model, TEXTS, 1)
    assert len(model.asked) == len(set(model.asked)) > 5 * len(TEXTS)


def test_lines_of_one_name_are_one_test_and_each_kind_has_its_own_question() -> None:
    lines = [
        Line(name="shout", kind="minimum", text="STOP", label="loud"),
        Line(name="shout", kind="minimum", text="stop", label="loud"),
        Line(name="louder", kind="direction", text="stop it", changed="STOP it", label="loud"),
        Line(name="louder", kind="direction", text="STOP it", changed="stop it", label="loud"),
        Line(name="louder", kind="direction", text="STOP it", changed="HALT it", label="loud"),  # not less, either
        Line(name="same", kind="invariance", text="STOP", changed="HALT", floor=0.5),
    ]
    found = [(score.name, score.rows, score.held, score.failures) for score in run_behaviour(
        lines, LoudWhereUpper(), TEXTS, 1)]  # fmt: skip
    assert found == [("shout", 2, 1, ["stop"]), ("louder", 3, 2, ["stop it"]), ("same", 1, 1, [])]


def test_a_change_that_applies_to_no_text_is_no_test() -> None:
    line = Line(name="names", kind="invariance", change="names")
    assert run_behaviour([line], LoudWhereUpper(), ["no name in here"], 1) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"name": "x", "kind": "invariance"}', "a test of kind invariance needs text and changed"),
        ('{"name": "x", "kind": "minimum", "text": "a"}', "a test of kind minimum needs label"),
        ('{"name": "x", "kind": "direction", "text": "a"}', "a test of kind direction needs changed and label"),
        ('{"name": "x", "kind": "invariance", "change": "blink"}', "is for invariances, and one of: upper_case"),
        ('{"name": "x", "kind": "minimum", "change": "typo"}', "'change' is for invariances"),
        ('{"name": "x", "kind": "mood"}', "kind: Input should be"),
        ('{"name": "x", "kind": "minimum", "text": "a", "label": "b", "floor": 2}', "floor: Input should be"),
        ("{", "line 2 is no behavioural test"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_test_is_named(line: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "behaviour.jsonl"
    file.write_text('{"name": "x", "kind": "invariance", "change": "typo"}\n' + line + "\n")
    with pytest.raises(InputError) as error:
        read_behaviour(file)
    assert f"{file}, line 2" in str(error.value) and said in str(error.value) and "\n" not in str(error.value)


def test_a_label_that_the_data_lacks_is_named() -> None:
    with pytest.raises(InputError, match=r"the label 'noisy', which the data lacks \(it has: quiet, loud\)"):
        run_behaviour([Line(name="x", kind="minimum", text="a", label="noisy")], LoudWhereUpper(), TEXTS, 1)


@given(st.text(max_size=60), st.integers(0, 5))
def test_changes_keep_what_makes_a_text(text: str, seed: int) -> None:
    assert {json.loads(line)["change"] for line in USUAL_FILE.read_text().splitlines()} == set(CHANGES)
    assert clean(CHANGES["white_space"](text, Random(seed))) == clean(text)
    assert html.unescape(CHANGES["entities"](text, Random(seed))) == html.unescape(html.escape(text))
    typo = CHANGES["typo"](text, Random(seed))
    assert sorted(typo) == sorted(text) and sum(a != b for a, b in zip(typo, text, strict=True)) in (0, 2)


class LoudAndShort(LoudWhereUpper):
    """The same with any number of labels: a text may be loud and quiet, or neither."""

    thresholds = np.array([0.5, 0.1], dtype=np.float32)


def test_of_several_labels_the_whole_set_must_stay_and_one_is_enough() -> None:
    lines = [
        Line(name="same", kind="invariance", text="ABC", changed="ABCd", label=""),
        Line(name="set", kind="invariance", text="ABCd", changed="Abcdefghi", label=""),
        Line(name="among", kind="minimum", text="Abcdefghi", label="loud"),
        Line(name="neither", kind="minimum", text="Abcdefghijkl", label="loud"),
    ]
    scores = {score.name: score.held for score in run_behaviour(lines, LoudAndShort(), [], 1)}
    # Of "Abcdefghi" a ninth is in capitals: loud and quiet.
    assert scores == {"same": 1, "set": 0, "among": 1, "neither": 0}
