import json
from pathlib import Path

import pandas as pd
import pytest

from components.data.dataset import Dataset
from components.data.prepare import prepare
from tests.pipelines.cli.test_cli import pigeonhole


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("there") / "data"
    rows = [(f"{label} text {number}", label) for label in "ab" for number in range(40)]
    prepare({"train": pd.DataFrame(rows, columns=["text", "label"])}, seed=1).save(folder)
    return folder


def test_rows_are_added_from_a_source_and_the_counts_printed(there: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    lines = [f"{label} text {number},{label}" for label in "ab" for number in range(30, 60)]
    (tmp_path / "more/train.csv").write_text("\n".join(["text,label", *lines, ",a"]))
    done = pigeonhole("data", "append", there, tmp_path / "more", "--out", tmp_path / "deep/out")
    assert done.returncode == 0, done.stderr
    result, after = json.loads(done.stdout), Dataset.load(tmp_path / "deep/out")
    assert (result["given"], result["rejected"], result["digest"]) == (61, {"no text": 1}, after.digest)
    assert sum(result["added"].values()) == 40 and result["parent"] == Dataset.load(there).digest
    assert (tmp_path / "deep/out/test.parquet").read_bytes() == (there / "test.parquet").read_bytes()
    (tmp_path / "more/train.csv").write_text("text,label\nnew,c\n")
    done = pigeonhole("data", "append", there, tmp_path / "more", "--out", tmp_path / "none")
    assert done.returncode == 2 and "label 'c', which the dataset lacks" in done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "append", "/none", "sample", "--out", "/tmp/none", "--check", "max_reject=1"], "no check max_reject"),
        (["run", "--check", "max_rejected"], "--check 'max_rejected' is no assignment"),
        (["run", "--check", "max_rejected=1", "--check", "max_rejected=0"], "--check max_rejected is given twice"),
        (["run", "--split", "by=author"], "by is 'author': give random, time or group"),
    ],
)
def test_settings_that_mean_nothing_are_refused_at_once(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = pigeonhole(*arguments, PIGEONHOLE_OUT=str(tmp_path / "out"))
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()
