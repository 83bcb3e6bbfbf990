"""Every command, path, link and body in the documents is one that works."""

import ast
import json
import re
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.data.behaviour.lines import Line
from predictor import metric_names
from tests.conftest import ROOT
from tests.docs.checks import Broken, check, check_name, check_path, cli, faults, is_served, named, options
from tests.docs.pages import PAGES, Block, anchors_of, blocks, code_in, links_in, prose
from tests.docs.shell import commands, heredocs

_PARSERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "jsonl": lambda text: [json.loads(line) for line in text.splitlines()],
    "yaml": yaml.safe_load,
    "python": ast.parse,
}
# Options of other programs that sentences mention.
_OTHERS_OPTIONS = {"--force-conflicts", "--no-python"}
# Names of other programs; prometheus_client gives a metric with information its ending.
_OTHERS_NAMES = {"PIP_FIND_LINKS", "authservice_session", "model_info"}
# A variable's, a parameter's or a metric's.
_NAME = re.compile(r"(\w*[A-Za-z]_\w*[A-Za-z]|[A-Z]{3,})(=.*)?")
_MODULE = re.compile(r"(predictor|components|pipelines)(\.\w+)+")
# Shapes of the server's answers that the documents show.
_ANSWERS = ("V1Answer", "V2Answer", "RestAnswer", "RestProgress", "Error")
_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def test_the_documents_have_commands() -> None:
    assert len(blocks("sh")) > 20
    assert {block.language for block in blocks()} <= {"sh", "text", *_PARSERS}


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_a_shell_block_works(block: Block) -> None:
    assert subprocess.run(["bash", "-n"], input=block.text, text=True, check=False).returncode == 0
    for words in commands(block.text):
        check(words)
    for body in heredocs(block.text):
        assert yaml.safe_load(body)


@pytest.mark.parametrize("block", blocks(*_PARSERS), ids=str)
def test_a_block_of_another_language_parses(block: Block) -> None:
    parsed = _PARSERS[block.language](block.text)
    if block.language == "json":
        kinds = ((False, False), (True, False), (False, True))
        assert any(not faults(parsed, name, *kind) for name in _ANSWERS for kind in kinds)
    if block.language == "jsonl":
        assert all(Line.model_validate(line) for line in parsed if "kind" in line)
    if block.language == "python":
        for node in ast.walk(parsed):
            if isinstance(node, ast.ImportFrom):
                assert {alias.name for alias in node.names} <= set(vars(import_module(str(node.module))))


@_page
def test_code_in_sentences_names_what_exists(page: Path) -> None:
    for code in code_in(page):
        words = code.split()
        if words[0] == "make" and len(words) > 1:
            check(words)
        elif words[0] == "pigeonhole" and len(words) > 1:
            named(words[1:])
        elif words[:2] == ["kubectl", "pigeonhole"] and len(words) > 2:
            for command in words[2].split("|"):
                named(["rollout", command])
        elif words[0] == "curl":
            check(commands(code)[0])
        elif re.fullmatch(r"--[a-z][\w-]+", words[0]):
            assert words[0] in options(cli()) | _OTHERS_OPTIONS, code
        elif re.match(r"/v\d", code):
            assert is_served(code), code
        elif _MODULE.fullmatch(code):
            check(["python", "-m", code])
        elif (name := _NAME.fullmatch(words[0])) and name[1] not in _OTHERS_NAMES:
            check_name(name[1])
        elif len(words) == 1:
            check_path(code)


def test_the_table_of_metrics_is_complete() -> None:
    table = (ROOT / "docs/serving.md").read_text().partition("\n## Metrics\n")[2]
    listed = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|([^|]+)\|", table, re.MULTILINE)))
    prefix = "text_classifier_"
    names = {name for name in vars(metric_names).values() if isinstance(name, str) and name.startswith(prefix)}
    assert {f"{prefix}{name}".removesuffix("_info") for name in listed} == names


@pytest.mark.parametrize(("page", "command"), [("serving", ["serve"]), ("rollout", ["rollout", "start"])])
def test_defaults_in_tables_are_the_commands(page: str, command: list[str]) -> None:
    defaults = {name: parameter.default for parameter in named(command)[0].params for name in parameter.opts}
    rows = re.findall(r"^\| (`--.*?) \| (.*?) \|", (ROOT / f"docs/{page}.md").read_text(), re.MULTILINE)
    assert rows
    for options_, cell in rows:
        named_here = [defaults[name] for name in re.findall(r"`(--[\w-]+)`", options_)]
        numbers = [int(number.replace(",", "")) for number in re.findall(r"\d+(?:,\d{3})*", cell)]
        unit = 2**20 if "MiB" in cell else 1
        assert named_here == ([n * unit for n in numbers] or cell.split()), cell


@_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in links_in(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors_of(target), link


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links_in(ROOT / "README.md")}
    assert {*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"} <= linked


def test_the_readme_is_short() -> None:
    assert 150 <= len((ROOT / "README.md").read_text().splitlines()) <= 200


@_page
def test_the_documents_speak_of_the_project_alone(page: Path) -> None:
    assert not re.search(r"/(?:work|tmp|home|root)/", prose(page).replace("--tmpfs /tmp", "")), page


@pytest.mark.parametrize(
    "line",
    [
        "pigeonhole serve", "pigeonhole serve out/b --no-such-option 1", "pigeonhole serve out/b --http-port many",
        "pigeonhole deploy out/b", "pigeonhole rollout pause news", "make bench-nothing", "make images COLOUR=red",
        "kubectl apply -k kustomize/overlays/none", "kubectl pigeonhole pause news", "python examples/none.py",
        "python -m pipelines.none", "curl localhost:8080/v3/models", "curl localhost:8080/v2 -d '{\"inputs\": [}'",
        "pip install -e '.[none]'", "export PIGEONHOLE_NONE=1", "docker build -f images/none.Dockerfile .",
        "torchrun -m components.training.none", "curl localhost:8080/v1/models/m:predict -d '{\"texts\": []}'",
        "grpcurl -d '{\"texts\": []}' localhost:8081 inference.GRPCInferenceService/ModelInfer",
        "cat a.txt | pigeonhole label", "echo $(pigeonhole label)",
    ],
)  # fmt: skip
def test_a_broken_command_is_found(line: str) -> None:
    with pytest.raises(Broken):
        for words in commands(line):
            check(words)


def test_shell_words_are_a_shells() -> None:
    text = "A=1 b --c 'd e' \\\n  f  # g\n(h && i) | j > k $(l m)\ncat <<'EOF'\nn: o\nEOF\n"
    expected = [["A=1", "b", "--c", "d e", "f"], ["h"], ["i"], ["j", "$"], ["l", "m"], ["cat"]]
    assert commands(text) == expected
    assert heredocs(text) == ["n: o\n"]
