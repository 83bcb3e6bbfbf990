"""What people answered, as Label Studio exports it and as tables hold it, good and bad."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.labelling.annotations import (
    AGAIN,
    NO_ANNOTATOR,
    NO_ID,
    NO_TEXT,
    UNKNOWN,
    Annotations,
    import_answers,
    known_labels,
)  # fmt: skip
from components.labelling.exports import EMPTY, SEVERAL, SKIPPED
from components.labelling.label_studio import config_labels, labeling_config
from predictor.errors import InputError
from tests.label_studio import choice

EXPORTS = Path(__file__).parent / "exports"
TEXTS = ["A goal <b>in</b> the last minute 😀", 'Shares, "bonds"\nand the bank\'s \\ loss; 50% off', "مرحبا שלום"]
ANSWERS = {
    ("r0", "4", "Sports"), ("r0", "5", "Sports"), ("r0", "6", "Business"), ("r1", "4", "Business"),
    ("r1", "5", "Q&A <b>"), ("r2", "4", "Sports"), ("r2", "5", "Sports"),
}  # fmt: skip


def answers_of(found: Annotations) -> set[tuple[str, str, str]]:
    return set(found.rows[["id", "annotator", "label"]].itertuples(index=False, name=None))


def written(folder: Path, content: Any, name: str = "export.json") -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def exported(row: str, *annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A task as the export of kind JSON has it."""
    return {"id": 1, "project": 3, "annotations": list(annotations), "data": {"id": row, "text": f"text {row}"}, **more}


def annotation(who: int, label: str | None, at: str = "2026-01-01T10:00:00Z", **more: Any) -> dict[str, Any]:
    return {"completed_by": who, "result": choice(label), "updated_at": at, "was_cancelled": False, **more}


@pytest.mark.parametrize("name", ["json.json", "json_min.json", "csv.csv"])
def test_every_kind_of_export_gives_the_same_answers(name: str) -> None:
    found = import_answers(EXPORTS / name)
    assert answers_of(found) == ANSWERS
    assert found.report["rejected"][AGAIN] == 1 and found.report["rejected"][EMPTY] == 1
    assert found.report["rejected"].get(SKIPPED, 0) == (3 if name == "json.json" else 0)  # the others leave them out
    assert found.report["tasks_without_an_answer"] == 1
    assert [found.rows.set_index("id")["text"].groupby(level=0).first()[f"r{n}"] for n in range(3)] == TEXTS
    assert set(found.rows["source"]) == {"made.csv"} and set(found.rows["predicted"]) == {"Sports"}
    assert set(found.rows[found.rows["picked"] == "random"]["id"]) == {"r2"}


def test_what_was_asked_and_not_answered_is_named(tmp_path: Path) -> None:
    asked = written(
        tmp_path, [{"data": {"row_id": name}} for name in ("r0", "r1", "r2", "r3", "deleted")], "tasks.json"
    )
    found = import_answers(EXPORTS / "csv.csv", asked=asked)
    assert found.report["asked_without_an_answer"] == {"rows": 2, "first": ["r3", "deleted"]}


def test_each_answer_that_does_not_count_is_counted_by_reason(tmp_path: Path) -> None:
    two = annotation(1, "Sports")
    two["result"][0]["value"]["choices"].append("World")
    file = written(
        tmp_path,
        [
            exported("a", annotation(1, "Sports"), annotation(2, "Chess"), annotation(3, None, was_cancelled=True)),
            exported("b", two, annotation(3, None)),
            exported("c", annotation(1, "World"), data={"text": "no id"}),
            exported("d", annotation(1, "World"), data={"id": "d", "text": " "}),
            exported("e"),
        ],
    )
    found = import_answers(file, ["Sports", "World"])
    assert answers_of(found) == {("a", "1", "Sports")}
    assert found.report["rejected"] == {UNKNOWN: 1, SKIPPED: 1, SEVERAL: 1, EMPTY: 1, NO_ID: 1, NO_TEXT: 1}
    assert found.report["unknown_labels"] == {"Chess": 1}
    assert found.report["never_answered"] == ["2", "3"] and found.report["annotators"] == {"1": 1, "2": 0, "3": 0}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("earlier", ["2026-01-01T00:00:00Z", "2026-01-02T01:30:00+02:00", "2026-01-01T23:59:59.5Z"])
def test_of_two_answers_of_one_annotator_the_later_counts(tmp_path: Path, order: int, earlier: str) -> None:
    both = [annotation(1, "Sports", "2026-01-02T00:00:00Z"), annotation(1, "World", earlier)]
    found = import_answers(written(tmp_path, [exported("a", *both[::order])]))
    assert answers_of(found) == {("a", "1", "Sports")} and found.report["rejected"] == {AGAIN: 1}


@pytest.mark.parametrize("at", ["", "yesterday"])
def test_without_a_time_the_answer_that_stands_later_counts(tmp_path: Path, at: str) -> None:
    both = [annotation(1, "Sports", "2026-01-02T00:00:00Z"), annotation(1, "World", at)]
    assert answers_of(import_answers(written(tmp_path, [exported("a", *both)]))) == {("a", "1", "World")}
    assert answers_of(import_answers(written(tmp_path, [exported("a", *both[::-1])]))) == {("a", "1", "Sports")}


def test_of_a_project_with_other_choices_too_those_that_are_named_are_read(tmp_path: Path) -> None:
    both = annotation(1, "Sports")
    both["result"] += [{**choice("clear")[0], "from_name": "quality"}]
    file = written(tmp_path, [exported("a", both), exported("b", annotation(2, "World"))])
    assert answers_of(import_answers(file)) == {("a", "1", "Sports"), ("b", "2", "World")}
    found = import_answers(file, control="quality")
    assert answers_of(found) == {("a", "1", "clear")} and found.report["rejected"] == {EMPTY: 1}


def test_numbers_are_one_label_however_a_program_wrote_them(tmp_path: Path) -> None:
    """pandas writes a column of integers in which one is missing as floats."""
    pd.DataFrame({"id": ["a", "b"], "text": ["x", "y"], "anna": [1, 0], "ben": [1, None]}).to_csv(
        tmp_path / "wide.csv", index=False
    )
    expected = {("a", "anna", "1"), ("a", "ben", "1"), ("b", "anna", "0")}
    for labels in (None, ["0", "1"], ["0", "1", "2"]):
        assert answers_of(import_answers(tmp_path / "wide.csv", labels, annotators=["anna", "ben"])) == expected
    found = import_answers(tmp_path / "wide.csv", ["0", "1", "v2"], annotators=["anna", "ben"])
    assert found.report["unknown_labels"] == {"1.0": 1}


def test_a_list_is_no_label_and_no_reason_to_stop_in_another_column(tmp_path: Path) -> None:
    rows = [{"id": n, "text": f"text {n}", "annotator": "anna", "label": "S", "tags": ["x", "y"]} for n in "ab"]
    pd.DataFrame(rows).to_parquet(tmp_path / "long.parquet")
    assert len(import_answers(tmp_path / "long.parquet").rows) == 2
    lines = [json.dumps(row | {"label": label}) for row, label in zip(rows, ("S", ["S", "B"]), strict=True)]
    found = import_answers(written(tmp_path, "\n".join(lines), "long.jsonl"))
    assert answers_of(found) == {("a", "anna", "S")} and found.report["rejected"] == {SEVERAL: 1}


_LEAVES = st.sampled_from([None, True, 3, 0.5, "", "Sports", "label", "2026-01-01"])
_ANY = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["choices", "id", "email"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def _shaped(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects as an export has them, with anything in one place or another."""
    return st.fixed_dictionaries({name: part | _ANY for name, part in parts.items()}) | _ANY


_RESULT = _shaped(type=st.just("choices"), from_name=st.just("label"), value=_shaped(choices=st.lists(_ANY)))
_ANNOTATION = _shaped(completed_by=_ANY, result=st.lists(_RESULT, max_size=2), updated_at=_ANY, was_cancelled=_ANY)
_TASK = _shaped(annotations=st.lists(_ANNOTATION, max_size=2), data=_shaped(id=_ANY, text=_ANY), project=_ANY)
_PLAIN_TASK = _shaped(annotator=_ANY, label=_ANY, text=_ANY, row_id=_ANY, updated_at=_ANY)


@settings(max_examples=150)
@given(st.lists(_TASK, max_size=2) | st.lists(_PLAIN_TASK, max_size=2))
def test_an_export_of_any_shape_is_read_or_refused(content: Any) -> None:
    with tempfile.TemporaryDirectory() as folder, suppress(InputError):
        found = import_answers(written(Path(folder), json.dumps(content)))
        assert len(found.rows) == found.report["answers"] > 0


def test_an_annotator_is_named_by_mail_where_the_export_has_it(tmp_path: Path) -> None:
    named = annotation(1, "Sports", completed_by={"id": 1, "email": "anna@example.com"})
    assert answers_of(import_answers(written(tmp_path, [exported("a", named)]))) == {
        ("a", "anna@example.com", "Sports")
    }


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "no JSON"), ("[]", "no tasks"), ("{", "no JSON"), ('{"detail": "Invalid token."}', "Invalid token."),
        ("<!DOCTYPE html><html>log in</html>", "web page"), ('{"a": 1}', "no list of tasks"), ("[1]", "no list"),
        ('[{"a": 1}]', "no export"), ('[{"annotations": [], "data": 1}]', "has no data"), ("[" * 99999, "no JSON"),
        ('[{"annotations": 5, "data": {}}]', "no annotations"),
        ('[{"annotations": [5], "data": {}}]', "no annotations"),
        ([exported("a", annotation(1, "A")), exported("b", annotation(1, "A"), project=4)], "several projects (3, 4)"),
        ([exported("a", annotation(1, "A")), exported("a", annotation(2, "A"), data={"id": "a", "text": "z"})],
         "two texts with the id 'a'"),
        ([exported("a", annotation(1, None))], "no answer that counts (1 without a label)"),
        ([exported("a")], "no answer that counts (1 tasks without one)"),
        ([exported("a", {"result": [{**choice("A")[0], "from_name": "topic"}]})], "choices called 'topic'"),
        ([{"id": 7, "text": "t", "annotator": 1, "label": "A"}], "numbers of tasks"),
    ],
)  # fmt: skip
def test_what_is_no_export_is_refused_in_a_sentence(tmp_path: Path, content: Any, part: str) -> None:
    with pytest.raises(InputError) as error:
        import_answers(written(tmp_path, content))
    assert part in str(error.value)


def test_a_table_with_a_row_an_answer_and_one_with_a_row_a_text_say_the_same(tmp_path: Path) -> None:
    long = pd.DataFrame(
        [["a", "x, y", "anna", "S"], ["a", "x, y", "ben", "B"], ["b", "مرحبا", "anna", "B"], ["b", "مرحبا", "ben", ""]],
        columns=["id", "text", "annotator", "label"],
    )
    wide = pd.DataFrame(
        [["a", "x, y", "S", "B", ""], ["b", "مرحبا", "B", "", ""]], columns=["id", "text", "anna", "ben", "carl"]
    )
    long.to_csv(tmp_path / "long.csv", index=False)
    wide.to_csv(tmp_path / "wide.csv", index=False)
    expected = {("a", "anna", "S"), ("a", "ben", "B"), ("b", "anna", "B")}
    assert answers_of(import_answers(tmp_path / "long.csv")) == expected
    found = import_answers(tmp_path / "wide.csv", annotators=["anna", "ben", "carl"])
    assert answers_of(found) == expected
    assert found.report["never_answered"] == ["carl"] and found.report["rejected"] == {EMPTY: 3}


def test_an_answer_of_nobody_is_counted(tmp_path: Path) -> None:
    file = written(tmp_path, "id,text,annotator,label\na,x,anna,S\na,x,,S\n", "long.csv")
    assert import_answers(file).report["rejected"] == {NO_ANNOTATOR: 1}


def test_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, "id,text,annotator,topic\na,x,anna,S\n", "long.csv")
    with pytest.raises(InputError, match=r"no column 'label' .*--control"):
        import_answers(file)
    assert answers_of(import_answers(file, control="topic")) == {("a", "anna", "S")}
    with pytest.raises(InputError, match="no column 'ben'"):
        import_answers(file, annotators=["ben"])


def test_labels_come_from_a_config_a_dataset_or_a_bundle(tmp_path: Path) -> None:
    labels = ["Q&A <b>", 'say "so"', "体育", "😀"]
    written(tmp_path, labeling_config(labels), "tasks.xml")
    written(tmp_path, labels, "labels.json")
    assert known_labels(tmp_path / "tasks.xml") == known_labels(tmp_path) == labels
    written(tmp_path, {"labels": ["a", "b"]}, "serving.json")
    assert known_labels(tmp_path) == ["a", "b"]
    for bad in (tmp_path / "none", written(tmp_path, "<a", "bad.xml"), written(tmp_path, "<a/>", "none.xml")):
        with pytest.raises(InputError):
            known_labels(bad)


def test_a_config_of_thousands_of_classes_is_a_list_to_search() -> None:
    labels = [f"class {n}" for n in range(5000)]
    config = labeling_config(labels)
    assert config_labels(config) == labels and 'layout="select"' in config
    for bad in ("$text", "a\x00b", "a\nb"):
        with pytest.raises(InputError, match="rename the class"):
            labeling_config(["a", bad])
