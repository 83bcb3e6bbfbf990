"""`pigeonhole score`: what is printed, written and returned."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from pipelines.cli.app import app
from predictor.errors import InputError
from tests.conftest import toy_frame


def score(*words: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["score", *map(str, words), "-o", "json"], catch_exceptions=False)


def test_a_file_becomes_labelled_parts(bundle: Path, tmp_path: Path) -> None:
    toy_frame(20, 41).rename(columns={"text": "body"}).to_csv(tmp_path / "new.csv", index=False)
    words = [tmp_path / "new.csv", "--bundle", bundle, "--out", tmp_path / "out", "--column", "text=body"]
    words += ["--part-rows", 25, "--metrics-file", tmp_path / "batch.prom"]
    done = score(*words)
    result = json.loads(done.stdout)
    assert done.exit_code == 0 and result["finished_rows"] == 60
    assert (tmp_path / "batch.prom").read_text().count('model_name="toy"') == 4
    out = pd.concat(pd.read_parquet(file) for file in sorted((tmp_path / "out/output").iterdir()))
    assert list(out.columns) == ["body", "label", "predicted_label", "confidence", "reason"]
    assert (out["predicted_label"] == out["label"]).mean() == result["canaries"]["accuracy"] > 0.9
    again = score(*words)
    assert again.exit_code == 0 and json.loads(again.stdout)["sha256"] == result["sha256"]
    assert "finished already" in again.stderr


def test_a_paused_batch_ends_with_1_and_goes_on_with_resume(bundle: Path, tmp_path: Path) -> None:
    frame = toy_frame(60, 42)
    frame["label"] = frame["label"].map({"Sports": "World", "World": "Sports", "Business": "Business"})
    frame.to_csv(tmp_path / "new.csv", index=False)
    words = [tmp_path / "new.csv", "--bundle", bundle, "--out", tmp_path / "out", "--part-rows", 90]
    for _ in range(2):
        done = score(*words)
        assert done.exit_code == 1 and json.loads(done.stdout)["finished_rows"] == 90
        assert done.stderr.splitlines()[-1].startswith("pigeonhole: paused: of 90 labelled rows")
    assert score(*words, "--resume").exit_code == 1  # the second part is as bad
    done = score(*words, "--resume")
    assert done.exit_code == 0 and json.loads(done.stdout)["manifest"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--column", "id=x"], "--column id"),
        (["--metrics-file", "batch.txt"], "textfile"),
        (["--column", "text=b"], "'b'"),
    ],
)
def test_wrong_use_is_one_sentence(more: list[str], said: str, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("text\ngoal\n")
    with pytest.raises(InputError, match=said):
        score(tmp_path / "new.csv", "--bundle", bundle, "--out", tmp_path / "out", *more)
    assert not (tmp_path / "out").exists()
