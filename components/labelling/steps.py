"""The three steps from files to files, as the commands and the pipeline components run them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.labelling.annotations import import_answers, known_labels
from components.labelling.annotators import UNKNOWN
from components.labelling.label_studio import CONTROL, labeling_config, write_tasks
from components.labelling.merge import NEEDED, merge
from components.labelling.rows import check_writable, read_rows, write_rows, write_text
from components.labelling.suggest import suggest
from components.platform.progress import say


def suggest_to(
    out: Path,
    bundle: Path,
    rows: Path,
    budget: int,
    random_share: float = 0.0,
    labelled: Sequence[Path] = (),
    seed: int = 42,
) -> dict[str, Any]:
    """Write tasks to a JSON file and the labeling config beside it; see `components.labelling.suggest.suggest`.

    Returns:
        The report.

    Raises:
        InputError: as `suggest`, or the files cannot be written.
    """
    check_writable(out, rows, [".json"])
    found = suggest(bundle, rows, budget, random_share, labelled, seed)
    config = out.with_suffix(".xml")
    xml = labeling_config(found.labels)
    write_tasks(found.tasks, out)
    write_text(xml, config)
    return {"tasks": str(out), "config": str(config), **found.report}


def import_to(
    out: Path,
    export: Path,
    labels: Path | None = None,
    asked: Path | None = None,
    annotators: Sequence[str] = (),
    control: str = CONTROL,
) -> dict[str, Any]:
    """Write the table of annotations; see `components.labelling.annotations.import_answers`.

    Args:
        out: CSV, JSON lines or Parquet.
        export: what people answered.
        labels: a bundle, a prepared dataset or a labeling config, whose labels alone count; None takes all.
        asked: the tasks that suggest wrote.
        annotators: columns of annotators, for a table with a row a text.
        control: the name of the choices in the labeling config.

    Returns:
        The report.

    Raises:
        InputError: as `import_answers`, or the file cannot be written.
    """
    check_writable(out, export)
    found = import_answers(export, known_labels(labels) if labels else None, asked, annotators, control)
    write_rows(found.rows, out)
    if found.report["never_answered"]:
        say(f"without an answer that counts: {', '.join(found.report['never_answered'])}")
    return {"annotations": str(out), **found.report}


def merge_to(out: Path, annotations: Path, method: str, ties: str) -> dict[str, Any]:
    """Write rows with their labels, and the report beside them; see `components.labelling.merge.merge`.

    With the policy `ask` the rows to ask again are tasks in a file beside, if there are any; if there are none, the
    file of an earlier call is removed.

    Returns:
        The report.

    Raises:
        InputError: as `merge`, or a file cannot be written.
    """
    check_writable(out, annotations)
    found = merge(read_rows(annotations, NEEDED), method, ties)
    beside = {name: out.with_suffix(f".{name}.json") for name in ("report", "ask")}
    report = {"out": str(out), "report": str(beside["report"]), **found.report}
    if found.ask:
        write_tasks(found.ask, beside["ask"])
        report["ask"] = str(beside["ask"])
    write_rows(found.rows, out)
    write_text(json.dumps(report, ensure_ascii=False, indent=2) + "\n", beside["report"])
    if not found.ask:
        beside["ask"].unlink(missing_ok=True)
    flagged = [
        f"{each['annotator']} ({each['flag']})"
        for each in found.report["annotators"]
        if each["flag"] not in ("", UNKNOWN)
    ]
    if flagged:
        say(f"annotators to look at: {', '.join(flagged)}")
    return report
