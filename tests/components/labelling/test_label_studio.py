"""The whole way through a real Label Studio: project, tasks, three annotators, export, labels."""

from pathlib import Path

import pytest

from components.labelling.annotations import AGAIN, import_answers
from components.labelling.exports import SKIPPED
from components.labelling.label_studio import labeling_config, prediction, task
from components.labelling.merge import merge
from tests.label_studio import KINDS, running

LABELS = ["Business", "Sports", "Q&A <b>"]
TEXTS = ["A goal <b>in</b> it 😀", 'Shares, "bonds";\nand a \\', "مرحبا שלום", "skipped", "unanswered", "deleted"]


@pytest.mark.slow(reason="starts a Label Studio, whose database takes a minute or more to make")
def test_tasks_come_back_from_label_studio_with_all_answers(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with running(tmp_path / "server") as studio:
        people = [studio.annotator(name) for name in ("anna", "ben", "carl")]
        project = studio.project(labeling_config(LABELS))
        sent = [
            {**task(f"r{n}", text, "made.csv", picked="uncertain"), "predictions": [prediction("Sports", 0.6, "0123")]}
            for n, text in enumerate(TEXTS)
        ]
        assert studio.send(project, sent) == len(TEXTS)
        tasks = {each["data"]["row_id"]: each["id"] for each in studio.tasks(project)}
        answers = {
            "r0": ("Sports", "Sports", "Business"),
            "r1": ("Business", "Sports", "Q&A <b>"),
            "r2": ("Sports",) * 3,
        }
        answers["r5"] = ("Sports",) * 3
        for row, labels in answers.items():
            for who, label in zip(people, labels, strict=True):
                studio.answer(tasks[row], who, label)
        studio.answer(tasks["r0"], people[2], "Sports")
        studio.answer(tasks["r3"], people[0], None, skipped=True)
        studio.ask("DELETE", f"/api/tasks/{tasks['r5']}/")
        files = {kind: studio.export(project, kind, tmp_path) for kind in KINDS}
    for kind, file in files.items():
        found = import_answers(file, LABELS)
        assert len(found.rows) == 9 and found.report["rejected"][AGAIN] == 1, kind
        assert found.report["rejected"].get(SKIPPED, 0) == (kind == "JSON")
        assert dict(zip(found.rows["id"], found.rows["text"], strict=True)) == {f"r{n}": TEXTS[n] for n in range(3)}
        merged = merge(found.rows, "majority", "drop")
        assert dict(merged.rows.set_index("id")["label"]) == {"r0": "Sports", "r2": "Sports"}
        assert merged.report["ties"] == {"policy": "drop", "rows": 1, "decided": 0, "left_out": 1}
