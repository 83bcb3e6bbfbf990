"""Why texts given on the command line get their labels, with a running predictor."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.running.label_texts import check_texts
from predictor.client import Server
from predictor.client.explain import explain
from predictor.client.server import EmptyTextsFound
from predictor.errors import InputError

if TYPE_CHECKING:  # JSON needs no rich
    from rich.console import Group
    from rich.text import Text

_BAR = 24
"""Columns of the longest bar."""
_MOST_WORDS = 20
_FOR, _AGAINST = "green", "red"
_WEAK = 0.1
"""Of the strongest word; weaker ones have no colour."""


def explain_texts(server: Server, texts: Sequence[str]) -> dict[str, Any]:
    """Return `model`, `model_version` and `explanations`, each as the server says it.

    Raises:
        InputError: there are no texts, one is blank or not UTF-8, or the server refuses one.
        Unavailable: the server does not answer.
    """
    check_texts(texts)
    explanations, versions = [], set()
    for number, text in enumerate(texts, start=1):
        try:
            explanation, version = explain(server, text)
        except EmptyTextsFound:
            raise InputError(f"text {number} has no words: remove it or fill it in") from None
        explanations.append(explanation)
        versions.add(version)
    return {"model": server.model, "model_version": ", ".join(sorted(versions)), "explanations": explanations}


def highlighted(result: Mapping[str, Any]) -> "Group":
    """Return explanations for people: each text with its words coloured, and a table of the words that count most."""
    from rich.console import Group

    return Group(*(part for explanation in result["explanations"] for part in _parts(explanation)))


def _parts(explanation: Mapping[str, Any]) -> list[Any]:
    from rich.table import Table
    from rich.text import Text

    words = explanation["words"]
    strongest = max((abs(word["attribution"]) for word in words), default=0.0) or 1.0
    head = Text(f"{_shown(explanation['label'])}  {explanation['confidence']:.1%}", "bold")
    weights = explanation.get("explained")
    if weights and not weights["same_label"]:
        head.append(f"  the weights explained here say {_shown(weights['label'])}", "yellow")
    table = Table(box=None, pad_edge=False, show_header=False)
    for word in sorted(words, key=lambda word: -abs(word["attribution"]))[:_MOST_WORDS]:
        share = word["attribution"] / strongest
        bar = Text("█" * round(abs(share) * _BAR), _FOR if share > 0 else _AGAINST)
        table.add_row(Text(_shown(word["text"])), Text(f"{word['attribution']:+.2f}", justify="right"), bar)
    how = f"{explanation['stage']} model: {explanation['method']}; {explanation['gap']:.1%} of the sum is missing"
    return [head, _coloured(explanation["text"], words, strongest), Text(), table, Text(how, "dim"), Text()]


def _coloured(text: str, words: Sequence[Mapping[str, Any]], strongest: float) -> "Text":
    """Return a text with its words in the colour of what they speak for, the strong ones in bold, too."""
    from rich.text import Text

    coloured = Text(_shown(text))
    for word in words:
        share = word["attribution"] / strongest
        if abs(share) >= _WEAK:
            weight = "bold " if abs(share) >= 0.5 else ""
            coloured.stylize(f"{weight}{_FOR if share > 0 else _AGAINST}", word["start"], word["end"])
    return coloured


def _shown(text: str) -> str:
    """Return a text without characters that a terminal would obey, each replaced so that places stay."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
