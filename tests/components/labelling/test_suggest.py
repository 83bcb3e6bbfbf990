"""Suggestions of a real bundle, and the steps and components from files to files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kfp import dsl

from components.labelling import component
from components.labelling.steps import import_to, merge_to, suggest_to
from components.labelling.suggest import suggest
from predictor.errors import InputError
from predictor.model.bundle import Bundle
from predictor.model.classifier import Classifier
from tests.conftest import toy_frame


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 texts, 20 of them once more in other case, and two without words."""
    texts = toy_frame(67, 11)["text"].tolist()[:200]
    # Half of one class and half of another: what the model is least sure of
    texts[100:120] = [f"{one.rsplit(' ', 1)[0]} {other}" for one, other in zip(texts[:20], texts[50:70], strict=True)]
    texts[0] = 'مرحبا <b>goal</b> 😀, "quoted"\nline'
    frame = pd.DataFrame({"text": [*texts, *(f"  {text.upper()}" for text in texts[:20]), " ", "<br>"]})
    file = tmp_path_factory.mktemp("rows") / "new.csv"
    frame.to_csv(file, index=False)
    return file


def data_of(tasks: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([task["data"] for task in tasks])


def test_copies_and_empty_rows_are_not_asked(bundle: Path, rows: Path) -> None:
    found = suggest(bundle, rows, budget=1000)
    data = data_of(found.tasks)
    assert len(data) == 200 and data["id"].is_unique and (data["id"] == data["row_id"]).all()
    assert found.report["left_out"] == {"without words": 2, "copies of other rows": 20, "labelled already": 0}
    assert found.report["rows"] == 222 and found.labels == Bundle.open(bundle).spec.labels
    assert set(data["text"]) == set(pd.read_csv(rows)["text"][:200])


def test_the_answers_are_the_served_ones_and_the_rows_are_unsure(bundle: Path, rows: Path) -> None:
    found = suggest(bundle, rows, budget=20)
    classifier = Classifier(bundle)
    for task in found.tasks:
        answer = classifier.classify([task["data"]["text"]])[0]
        (prediction,) = task["predictions"]
        assert (
            prediction["result"][0]["value"] == {"choices": [answer.label]}
            and task["data"]["predicted"] == answer.label
        )
        assert prediction["score"] == pytest.approx(answer.confidence, abs=1e-3)
        assert prediction["model_version"] == Bundle.open(bundle).digest[:12]
    assert found.report["mean_uncertainty"]["rows picked"] > found.report["mean_uncertainty"]["all rows"]


def test_random_rows_are_marked_and_come_without_an_answer(bundle: Path, rows: Path) -> None:
    found = suggest(bundle, rows, budget=40, random_share=0.25)
    kinds = data_of(found.tasks)["picked"]
    assert kinds.value_counts().to_dict() == {"uncertain": 30, "random": 10}
    assert all(bool(task["predictions"]) == (task["data"]["picked"] == "uncertain") for task in found.tasks)
    other = suggest(bundle, rows, budget=40, random_share=0.25, seed=7)
    drawn = [{t["data"]["id"] for t in each.tasks if t["data"]["picked"] == "random"} for each in (found, other)]
    assert drawn[0] != drawn[1]
    assert suggest(bundle, rows, budget=40, random_share=0.25).tasks == found.tasks
    assert set(data_of(suggest(bundle, rows, 10, random_share=1.0).tasks)["picked"]) == {"random"}


def test_what_is_labelled_is_not_asked_again(bundle: Path, rows: Path, tmp_path: Path) -> None:
    pd.read_csv(rows)[10:30].assign(text=lambda each: each["text"].str.upper()).to_parquet(tmp_path / "train.parquet")
    found = suggest(bundle, rows, budget=1000, labelled=[tmp_path])
    assert len(found.tasks) == 180 and found.report["left_out"]["labelled already"] == 30
    with pytest.raises(InputError, match="no row left"):
        suggest(bundle, rows, budget=5, labelled=[rows])


@pytest.mark.parametrize(
    ("content", "part"),
    [("id,text\na,x\na,y\n", "two texts with the id 'a'"), ("text\n", "no rows"), ("a,b\n1,2\n", "no column 'text'")],
)
def test_rows_that_cannot_be_asked_are_refused(bundle: Path, tmp_path: Path, content: str, part: str) -> None:
    (tmp_path / "new.csv").write_text(content)
    with pytest.raises(InputError, match=part):
        suggest(bundle, tmp_path / "new.csv", budget=5)


def test_the_components_go_from_texts_to_labels(bundle: Path, rows: Path, tmp_path: Path) -> None:
    tasks, annotations, merged = (dsl.Dataset(uri=str(tmp_path / name)) for name in ("tasks", "annotations", "merged"))
    assert component.suggest.python_func(dsl.Model(uri=str(bundle)), str(rows), tasks, budget=12) == 12
    asked = json.loads((tmp_path / "tasks/tasks.json").read_text())
    answers = [
        {"id": task["data"]["id"], "text": task["data"]["text"], "annotator": who, "label": task["data"]["predicted"]}
        for task in asked for who in ("anna", "ben")
    ]  # fmt: skip
    answers[1]["label"] = "Chess"
    pd.DataFrame(answers).to_csv(tmp_path / "answers.csv", index=False)
    labels = str(tmp_path / "tasks/tasks.xml")
    assert component.import_.python_func(str(tmp_path / "answers.csv"), annotations, labels) == 23
    assert annotations.metadata["rejected"] == {"unknown label": 1}
    assert component.merge.python_func(annotations, merged) == 12
    frame = pd.read_parquet(tmp_path / "merged/merged.parquet")
    assert list(frame["label"]) == list(frame["id"].map({t["data"]["id"]: t["data"]["predicted"] for t in asked}))
    assert json.loads((tmp_path / "merged/merged.report.json").read_text())["labelled"] == 12


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_every_kind_of_file_keeps_texts_as_they_are(tmp_path: Path, kind: str) -> None:
    texts = ["مرحبا <b>x</b> 😀", 'a "b",\nc\r\n', "NA", "007", "\u2028;\t"]
    answers = [{"id": f"0{n}", "text": text, "annotator": "1", "label": "1e0"} for n, text in enumerate(texts)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(each) for each in answers))
    import_to(tmp_path / f"b{kind}", tmp_path / "a.jsonl")
    report = merge_to(tmp_path / f"c{kind}", tmp_path / f"b{kind}", "majority", "drop")
    assert report["labelled"] == 5
    import_to(tmp_path / "d.jsonl", tmp_path / f"b{kind}")
    kept = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().split("\n") if line]
    assert [(row["text"], row["label"], row["id"]) for row in kept] == [
        (t, "1e0", f"0{n}") for n, t in enumerate(texts)
    ]


def test_tasks_to_ask_again_go_when_none_are_left(tmp_path: Path) -> None:
    answers = pd.DataFrame({"id": "a", "text": "x", "annotator": ["anna", "ben"], "label": ["S", "B"]})
    answers.to_csv(tmp_path / "a.csv", index=False)
    merge_to(tmp_path / "m.csv", tmp_path / "a.csv", "majority", "ask")
    assert (tmp_path / "m.ask.json").exists()
    answers.assign(label="S").to_csv(tmp_path / "a.csv", index=False)
    merge_to(tmp_path / "m.csv", tmp_path / "a.csv", "majority", "ask")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.csv", "m.csv", "m.report.json"]


def test_no_step_replaces_the_file_it_reads(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("id,text,annotator,label\na,x,anna,S\n")
    with pytest.raises(InputError, match="is the file that is read"):
        import_to(file, file)
    with pytest.raises(InputError, match="is the file that is read"):
        merge_to(tmp_path / "." / "a.csv", file, "majority", "drop")
    assert file.read_text().endswith("a,x,anna,S\n")


def test_nothing_is_left_half_written(bundle: Path, rows: Path, tmp_path: Path) -> None:
    cases: list[tuple[Path, Callable[[Path], Any]]] = [
        (tmp_path / "none" / "t.json", lambda out: suggest_to(out, bundle, rows, 5)),
        (tmp_path / "t.csv", lambda out: suggest_to(out, bundle, rows, 5)),
        (tmp_path / "m.txt", lambda out: merge_to(out, rows, "majority", "drop")),
        (tmp_path / "m.csv", lambda out: merge_to(out, rows, "majority", "drop")),
        (tmp_path / "i.csv", lambda out: import_to(out, rows)),
    ]
    for out, done in cases:
        with pytest.raises(InputError):
            done(out)
    assert list(tmp_path.iterdir()) == []
