"""Files to score, and folders in which they are."""

import hashlib
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from components.scoring.plan import Plan, Settings, make_plan
from components.scoring.store import Store
from predictor.model.bundle import Bundle
from predictor.model.classifier import Classifier
from tests.conftest import toy_frame


@pytest.fixture(scope="session")
def classifier(bundle: Path) -> Classifier:
    return Classifier(bundle)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """250 texts of mixed lengths without labels, some of which cannot be scored."""
    frame = toy_frame(84, 21)[["text"]][:250]
    frame["id"] = [f"row {number}" for number in range(len(frame))]
    frame.loc[3, "text"], frame.loc[70, "text"], frame.loc[71, "text"] = "<br>", None, " \u200b"
    frame.loc[9, "text"] = 'goal <b>match</b> 😀, "quoted"\nline'
    file = tmp_path_factory.mktemp("rows") / "new.parquet"
    frame.to_parquet(file, index=False)
    return file


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 texts with their labels."""
    file = tmp_path_factory.mktemp("labelled") / "labelled.csv"
    toy_frame(14, 22)[:40].to_csv(file, index=False)
    return file


def planned(folder: Path, source: Path, bundle: Path, **settings: object) -> tuple[Store, Plan]:
    """Plan a batch."""
    store = Store(str(folder))
    return store, make_plan(store, str(source), Bundle.open(bundle), Settings(**settings))  # type: ignore[arg-type]


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of each file that has to be the same however a batch is run: not what it cost."""
    same = [*folder.glob("output/*"), *folder.glob("input/*"), folder / "plan.json", folder / "manifest.json"]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in same}


def scored(folder: Path) -> pa.Table:
    """Return all rows that came out, in order."""
    import pyarrow.parquet as pq

    return pa.concat_tables([pq.read_table(file) for file in sorted((folder / "output").glob("*.parquet"))])


def mislabelled(source: Path, target: Path, wrong: float) -> Path:
    """Write labelled rows of which a share, spread evenly, has another label."""
    frame = pd.read_csv(source)
    others = {"Business": "World", "Sports": "Business", "World": "Sports"}
    places = [row for row in range(len(frame)) if (row + 1) * wrong % 1 < wrong]
    frame.loc[places, "label"] = frame.loc[places, "label"].map(others)
    frame.to_csv(target, index=False)
    return target
