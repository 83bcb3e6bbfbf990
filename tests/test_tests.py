"""The tests themselves: short names, bodies that fit a screen, the reason of each slow mark, the toy model."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = sorted((ROOT / "tests").rglob("*.py"))


def complaints(source: str) -> Iterator[str]:
    """What breaks a rule in a file: a test's name over 79 characters, a test over 60 lines, `slow` without a reason."""
    tree = ast.parse(source)
    reasons = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and _has_reason(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if len(node.name) > 79:
                yield f"line {node.lineno}: {node.name} has {len(node.name)} characters"
            if lines > 60:
                yield f"line {node.lineno}: {node.name} has {lines} lines"
        elif isinstance(node, ast.Attribute) and ast.unparse(node).endswith("mark.slow") and id(node) not in reasons:
            yield f"line {node.lineno}: slow without a reason"


def _has_reason(call: ast.Call) -> bool:
    given = {word.arg: word.value for word in call.keywords}.get("reason")
    return isinstance(given, ast.Constant) and isinstance(given.value, str) and bool(given.value.strip())


def test_names_are_short_tests_are_short_and_slow_ones_say_why() -> None:
    found = [f"{file.relative_to(ROOT)}, {words}" for file in FILES for words in complaints(file.read_text())]
    assert found == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (f"def test_{'a' * 74}(): pass", []),
        (f"async def test_{'a' * 75}(): pass", ["has 80 characters"]),
        ("class TestA:\n def test_a(self):\n" + "  pass\n" * 59, []),
        ("class TestA:\n def test_a(self):\n" + "  pass\n" * 60, ["has 61 lines"]),
        ('@pytest.mark.slow(reason="trains")\ndef test_a(): pass', []),
        ('pytestmark = [pytest.mark.slow(reason="trains"), pytest.mark.cluster]', []),
        ("@pytest.mark.slow\ndef test_a(): pass", ["slow without a reason"]),
        ("@pytest.mark.slow()\ndef test_a(): pass", ["slow without a reason"]),
        ('@pytest.mark.slow(reason=" ")\ndef test_a(): pass', ["slow without a reason"]),
        ("pytestmark = pytest.mark.slow", ["slow without a reason"]),
        ("rows = [pytest.param(1, marks=pytest.mark.slow)]", ["slow without a reason"]),
    ],
)
def test_what_breaks_a_rule_is_found(source: str, found: list[str]) -> None:
    got = list(complaints(source))
    assert len(got) == len(found) and all(words.endswith(end) for words, end in zip(got, found, strict=True))


def test_the_toy_vocabulary_is_the_same_in_each_session(backbone: Path) -> None:
    vocabulary = json.loads((backbone / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] and pieces[5:] == sorted(pieces[5:])
    assert len(pieces) > 50
