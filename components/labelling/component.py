"""KFP components of the labelling loop."""

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def suggest(
    bundle: dsl.Input[dsl.Model],
    rows: str,
    tasks: dsl.Output[dsl.Dataset],
    budget: int,
    random_share: float = 0.0,
    labelled: str = "",
    seed: int = 42,
) -> int:
    """Pick the rows that people should label next, with the model's answer to each.

    Args:
        bundle: the model that scores the rows.
        rows: a file with the column text (CSV, JSON lines, Parquet), mounted into the step.
        tasks: tasks.json for Label Studio, and its labeling config tasks.xml.
        budget: how many rows to pick.
        random_share: the share of them that is drawn at random, to estimate accuracy on.
        labelled: a dataset or file whose texts are not asked again; empty for none.
        seed: fixes the random rows.

    Returns:
        The number of tasks.
    """
    from pathlib import Path

    from components.labelling.steps import suggest_to
    from components.platform.termination import one_sentence

    folder = Path(tasks.path)
    with one_sentence():
        folder.mkdir(parents=True, exist_ok=True)
        places = [Path(labelled)] if labelled else []
        report = suggest_to(folder / "tasks.json", Path(bundle.path), Path(rows), budget, random_share, places, seed)
    tasks.metadata.update(report)
    return int(report["asked"])


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def import_(export: str, annotations: dsl.Output[dsl.Dataset], labels: str = "", tasks: str = "") -> int:
    """Read what people answered.

    Args:
        export: an export of Label Studio (JSON, CSV) or a table with a row an answer, mounted into the step.
        annotations: annotations.parquet, a row for each answer that counts; the metadata say what does not.
        labels: a bundle, a prepared dataset or a labeling config, whose labels alone count; empty takes all.
        tasks: the tasks that were asked, to find those without an answer.

    Returns:
        The number of answers.
    """
    from pathlib import Path

    from components.labelling.steps import import_to
    from components.platform.termination import one_sentence

    folder = Path(annotations.path)
    with one_sentence():
        folder.mkdir(parents=True, exist_ok=True)
        known, asked = (Path(place) if place else None for place in (labels, tasks))
        report = import_to(folder / "annotations.parquet", Path(export), known, asked)
    annotations.metadata.update(report)
    return int(report["answers"])


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def merge(
    annotations: dsl.Input[dsl.Dataset], merged: dsl.Output[dsl.Dataset], method: str = "majority", ties: str = "drop"
) -> int:
    """Give each row one label, and say how far people agree.

    Args:
        annotations: the answers that count.
        merged: merged.parquet, rows ready to append to a dataset, and merged.report.json.
        method: majority or dawid-skene.
        ties: drop, ask or first-annotator, where two labels are as good.

    Returns:
        The number of rows with a label.
    """
    from pathlib import Path

    from components.labelling.steps import merge_to
    from components.platform.termination import one_sentence

    folder = Path(merged.path)
    with one_sentence():
        folder.mkdir(parents=True, exist_ok=True)
        report = merge_to(folder / "merged.parquet", Path(annotations.path) / "annotations.parquet", method, ties)
    merged.metadata.update(rows=report["rows"], labelled=report["labelled"], ties=report["ties"])
    return int(report["labelled"])
