"""What keeps the code easy to find one's way in: short modules, small folders, nothing written twice."""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

MODULES = sorted(file for top in ("predictor", "components", "pipelines") for file in (ROOT / top).rglob("*.py"))
LONGEST_MODULE = 320
"""Lines."""
MOST_MODULES = 14
"""Of a folder at one level, its `__init__.py` aside."""
LONGEST_REPEAT = 9
"""Lines of code that may stand in two places."""


def _code(source: str) -> list[tuple[int, str]]:
    """Return the lines that say something, each with its number: no blank line, comment, docstring or import."""
    silent: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
                silent |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate((line.strip() for line in source.splitlines()), 1)
    return [(number, line) for number, line in lines if line and line[0] != "#" and number not in silent]


def _repeats(sources: dict[str, str], longest: int) -> Iterator[str]:
    """Yield the places of each block of more than `longest` lines that stands in more than one of them."""
    found = defaultdict(list)
    for name, source in sources.items():
        code = _code(source)
        for start in range(len(code) - longest):
            block = code[start : start + longest + 1]
            found[tuple(line for _, line in block)].append(f"{name}:{block[0][0]}")
    return (" = ".join(places) for places in found.values() if len(places) > 1)


def _relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_no_module_is_longer_than_can_be_read_at_once() -> None:
    lengths = {_relative(file): len(file.read_text().splitlines()) for file in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def test_no_folder_has_too_many_modules_to_look_through() -> None:
    folders = Counter(_relative(file.parent) for file in MODULES if file.name != "__init__.py")
    assert {folder: modules for folder, modules in folders.items() if modules > MOST_MODULES} == {}


def test_no_block_of_code_stands_twice() -> None:
    assert list(_repeats({_relative(file): file.read_text() for file in MODULES}, LONGEST_REPEAT)) == []


def test_a_block_is_found_twice_whatever_its_comments_and_indent() -> None:
    block = [f"a{n} = {n}" for n in range(LONGEST_REPEAT + 1)]
    inner = ["def f():", '    """A docstring."""', "    import os", "", *(f"    {line}\n    # why" for line in block)]
    twice = {"one.py": "\n".join(block), "two.py": "\n".join(inner)}
    assert list(_repeats(twice, LONGEST_REPEAT)) == ["one.py:1 = two.py:5"]
    assert list(_repeats(twice, LONGEST_REPEAT + 1)) == []
