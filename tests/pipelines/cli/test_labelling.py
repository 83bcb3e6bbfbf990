"""`pigeonhole label`: what is printed, written and returned."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from pipelines.cli.app import app
from predictor.errors import InputError

EXPORTS = Path(__file__).parents[2] / "components/labelling/exports"


def label(*words: object) -> str:
    """Run a command in this process, and return what it printed on stdout."""
    done = CliRunner().invoke(app, ["label", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_an_export_becomes_rows_with_labels(tmp_path: Path) -> None:
    annotations, out = tmp_path / "annotations.parquet", tmp_path / "labelled.csv"
    read = json.loads(label("import", EXPORTS / "json.json", "--out", annotations, "-o", "json"))
    assert read["answers"] == 7 and read["rejected"]["skipped"] == 3
    report = json.loads(label("merge", annotations, "--ties", "ask", "--out", out, "-o", "json"))
    assert report["ties"] == {"policy": "ask", "rows": 1, "decided": 0, "left_out": 1}
    assert report == json.loads((tmp_path / "labelled.report.json").read_text())
    assert dict(pd.read_csv(out).set_index("id")["label"]) == {"r0": "Sports", "r2": "Sports"}
    assert [task["data"]["row_id"] for task in json.loads((tmp_path / "labelled.ask.json").read_text())] == ["r1"]
    shown = label("merge", annotations, "--method", "dawid-skene", "--out", out, "-o", "table")
    assert "krippendorff_alpha" in shown and "too few rows" in shown


def test_a_wrong_file_ends_with_2_and_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "page.json").write_text("<html>")
    words = ["import", str(tmp_path / "page.json"), "--out", str(tmp_path / "a.csv")]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "label", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("pigeonhole: ") and done.stderr.count("\n") == 1 and "web page" in done.stderr


def test_a_bundle_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("text\nsome words\n")
    with pytest.raises(InputError, match=r"no serving\.json"):
        label("suggest", tmp_path, tmp_path / "new.csv", "--budget", "5", "--out", tmp_path / "tasks.json")
