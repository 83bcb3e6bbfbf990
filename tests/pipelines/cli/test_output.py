"""A command's result: a table for a person at a terminal, JSON for a program, and either where it is asked for."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import typer

from pipelines.cli.app import app
from pipelines.cli.base.output import Format, as_table, show, show_changes
from tests.fakes.terminal import Terminal

RESULT = {
    "accuracy": 0.91513157,
    "passed": True,
    "tuned": None,
    "reasons": ["lost 0.3%", "gained 1.2%"],
    "labels": {"Sci/Tech": 3, "World": 0},
    "versions": [
        {"version": "aaaaaaaaaaaa", "reasons": (), "serves": False},
        {"version": "bbbbbbbbbbbb", "reasons": ("promoted by hand", "later"), "serves": True},
    ],
}
TABLE = """\
accuracy  0.915132
passed    yes
tuned     -
reasons   lost 0.3%
          gained 1.2%
labels
  Sci/Tech  3
  World     0
versions
  version       reasons                  serves
  aaaaaaaaaaaa  -                        no
  bbbbbbbbbbbb  promoted by hand; later  yes"""


def test_a_table_has_a_line_for_each_value_and_each_row() -> None:
    assert as_table(RESULT, 80) == TABLE


def test_the_widest_column_is_cut_to_the_terminal() -> None:
    rows = {"predictions": [{"text": "Shares fell 7 percent. " * 20, "label": "Business"}, {"text": "A", "label": "B"}]}
    heading, first, second = as_table(rows, 60).splitlines()[1:]
    assert len(first) == 60 and "… " in first and first.endswith("Business")
    assert heading.index("label") == first.index("Business") == second.index("B")


def test_all_wide_columns_are_cut_where_one_is_not_enough() -> None:
    rows = {"versions": [{"version": "aaaaaaaaaaaa", "bundle": "b" * 90, "reasons of many words": ["列" * 40]}]}
    _, row = as_table(rows, 60).splitlines()[1:]
    version, bundle, reasons = row.split(maxsplit=2)
    assert version == "aaaaaaaaaaaa" and bundle.endswith("b…") and reasons.startswith("列") and reasons.endswith("…")
    assert 59 <= len(row) + reasons.count("列") <= 60


@pytest.mark.parametrize("width", [1, 20])
def test_a_row_stays_one_line_however_narrow_the_terminal(width: int) -> None:
    heading, row = as_table({"rows": [{"a heading of words": "x" * 30, "y": "z"}]}, width).splitlines()[1:]
    assert heading.startswith("  a heading of wor…") and heading.endswith("y") and "xx…" in row and row.endswith("z")


def test_what_stands_alone_in_its_line_is_not_cut() -> None:
    address = "https://kubeflow.example.com/" + "a" * 80
    assert as_table({"url": address}, 60) == f"url  {address}"


@pytest.mark.parametrize("rows", [False, True])
def test_what_a_terminal_would_obey_is_not_shown(rows: bool) -> None:
    result = {"text": "a\x1b[2J\nb\u202e[red]c[/red] :cat:", "列": "一"}
    if rows:
        assert as_table({"": [result]}, 80) == "-\n  text                        列\n  a [2J b [red]c[/red] :cat:  一"
    else:
        assert as_table(result, 80) == "text  a [2J b [red]c[/red] :cat:\n列    一"


@pytest.mark.parametrize(("chosen", "table"), [(None, True), (Format.TABLE, True), (Format.JSON, False)])
def test_a_terminal_gets_a_table_unless_json_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, chosen: Format | None, table: bool
) -> None:
    with Terminal() as terminal:
        monkeypatch.setattr(sys, "stdout", terminal.stdout)
        show(RESULT, chosen)
        shown = terminal.shown()
    assert shown == f"{TABLE}\n" if table else json.loads(shown)["labels"] == RESULT["labels"]


@pytest.mark.parametrize(("chosen", "table"), [(None, False), (Format.TABLE, True), (Format.JSON, False)])
def test_a_pipe_gets_json_unless_a_table_is_asked_for(
    capsys: pytest.CaptureFixture[str], chosen: Format | None, table: bool
) -> None:
    show(RESULT, chosen)
    shown = capsys.readouterr().out
    assert shown == f"{TABLE}\n" if table else json.loads(shown)["labels"] == RESULT["labels"]


def test_changes_are_a_line_of_json_each_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    show_changes([{"weight": 10}, {"weight": 10}, {"weight": 20}], None)
    assert capsys.readouterr().out == '{"weight": 10}\n{"weight": 20}\n'


def test_changes_are_tables_in_a_pipe_that_asks_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    show_changes([{"weight": 10}, {"weight": 20}], Format.TABLE)
    assert capsys.readouterr().out == "weight  10\nweight  20\n"


def test_a_terminal_is_cleared_for_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    with Terminal() as terminal:
        monkeypatch.setattr(sys, "stdout", terminal.stdout)
        show_changes([{"weight": 10}, {"weight": 10}, {"weight": 20}], None)
        assert terminal.shown() == "\x1b[H\x1b[2Jweight  10\n\x1b[H\x1b[2Jweight  20\n"


@pytest.fixture
def server() -> Iterator[str]:
    """A predictor that has one answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            outputs = [{"name": "label", "data": ["World"]}, {"name": "confidence", "data": [0.5]}]
            body = json.dumps({"model_version": "0123456789ab", "outputs": outputs}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as fake:
        thread = threading.Thread(target=fake.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{fake.server_port}"
        fake.shutdown()
        thread.join()


def test_a_command_shows_a_person_a_table(server: str) -> None:
    with Terminal() as terminal:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", "predict", "--url", server, "Rebels signed."],
            stdout=terminal.stdout, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
            env={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "PIGEONHOLE_FORMAT")},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert terminal.shown().splitlines() == [
            "model          classifier",
            "model_version  0123456789ab",
            "predictions",
            "  text            label  confidence",
            "  Rebels signed.  World  0.5",
        ]


def test_every_command_that_prints_a_result_says_how() -> None:
    commands = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for group in ("rollout", "data", "synthesize", "label", "models", "monitor"):
        commands |= commands.pop(group).commands
    shown = {
        name: command for name, command in commands.items() if not command.hidden and name not in ("serve", "trigger")
    }
    assert {
        "run",
        "tune",
        "compile",
        "submit",
        "schedule",
        "predict",
        "status",
        "history",
        "append",
        "merge",
        "promote",
    } <= shown.keys()
    for name, command in shown.items():
        options = {frozenset(parameter.opts): parameter.envvar for parameter in command.params}
        assert options[frozenset(("-o", "--format"))] == "PIGEONHOLE_FORMAT", name
