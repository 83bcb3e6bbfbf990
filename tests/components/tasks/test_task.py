"""The settings files of tasks: those of the package, a user's own, and wrong ones."""

from pathlib import Path

import pytest

from components.data.behaviour.lines import check_labels, read_behaviour
from components.data.collect import collect_frames
from components.evaluation.thresholds import Thresholds
from components.tasks.task import default_task, load_task, task_names
from predictor.errors import InputError

NAMES = task_names()


@pytest.mark.parametrize("name", NAMES)
def test_a_task_of_the_package_is_whole(name: str) -> None:
    task = load_task(name)
    parameters = task.parameters()
    rows = collect_frames(task.data)
    assert {label for frame in rows.values() for label in frame["label"]} == set(task.labels)
    Thresholds.named({"min_accuracy": parameters["min_accuracy"], **parameters["thresholds"]})
    if task.behaviour:
        check_labels(read_behaviour(Path(task.behaviour)), task.labels)
    assert task.demo.texts and task.description


def test_one_task_is_the_default_and_the_samples() -> None:
    assert [name for name in NAMES if load_task(name).default] == ["topics"]
    frames = [collect_frames(address)["test"][["text", "label"]] for address in ("sample", default_task().data)]
    assert frames[0].equals(frames[1])


def test_a_sample_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(InputError, match="no sample 'moods': choose sample:sentiment or sample:topics"):
        collect_frames("sample:moods")


def test_paths_of_a_file_count_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "tests.jsonl").write_text('{"name": "n", "kind": "minimum", "text": "t", "label": "a"}\n')
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\ndata = "rows"\nbehaviour = "tests.jsonl"\n[gate]\nmin_accuracy = 0.7\n')
    parameters = load_task(str(file)).parameters()
    assert parameters["data"] == str(tmp_path / "rows")
    assert '"minimum"' in parameters["behaviour"]
    assert (parameters["min_accuracy"], parameters["thresholds"], parameters["labels"]) == (0.7, {}, [])
    file.write_text('name = "mine"\ndata = "s3://bucket/rows"\n')
    assert load_task(str(file)).parameters()["data"] == "s3://bucket/rows"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name = ", "cannot be read"),
        ('name = "Two Words"', "name: "),
        ('name = "a"\nlabel = ["x", "y"]', "label: Extra inputs"),
        ('name = "a"\nlabels = ["x"]', "two or more different names"),
        ('name = "a"\nlabels = ["x", "x"]', "two or more different names"),
        ('name = "a"\nordinal = true', "names its labels"),
        ('name = "a"\n[answer]\nverb = "Rate it"', "answer.verb"),
        ('name = "a"\n[answer]\nverb = "models"', "a path of KServe's protocol"),
        ('name = "a"\n[answer]\nfield = "confidence"', "another part of the answer"),
        ('name = "a"\n[answer]\nname = "b"', "answer.name"),
        ('name = "a"\n[gate]\nmin_accuracy = "high"', "gate.min_accuracy"),
    ],
)
def test_a_wrong_file_is_refused_with_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        load_task(str(file))
    assert "\n" not in str(error.value) or message == "cannot be read"


def test_names_and_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no task 'moods': choose sentiment, topics"):
        load_task("moods")
    with pytest.raises(InputError, match="no task 'no/topics'"):
        load_task("no/topics")
    with pytest.raises(InputError, match="cannot be read"):
        load_task(str(tmp_path / "none.toml"))
    (tmp_path / "a.toml").write_text('name = "a"\nbehaviour = "none.jsonl"\n')
    with pytest.raises(InputError, match="behavioural tests"):
        load_task(str(tmp_path / "a.toml")).parameters()
