"""KFP components of the data stage."""

from typing import Dict, List  # noqa: UP035 - KFP reads these in signatures

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def collect(
    data: str,
    collected: dsl.Output[dsl.Dataset],
    columns: Dict[str, str] = {},  # noqa: B006, UP006
    query: str = "",
    behaviour: str = "",
    multi_label: bool = False,
) -> int:
    """Collect labelled texts, and leave out rows that are broken by themselves.

    Args:
        data: the address of a source: `sample`, a folder or a file, s3://, https:// and others, sql:URL, hf:NAME or
            named:NAME.
        collected: a Parquet file for each split that was found, and collected.json, which counts the rows left out.
        columns: the source's names of columns by ours, such as text or label.
        query: the SELECT of a sql: source.
        behaviour: behavioural tests of the task, as lines of JSON, for data that has none beside it.
        multi_label: whether a text may have any number of labels: joined by |, or as a list.

    Returns:
        The number of rows in all splits.
    """
    from pathlib import Path

    from components.data.collect import collect
    from components.platform.termination import one_sentence

    with one_sentence():
        found = collect(data, Path(collected.path), columns, query, behaviour=behaviour, multi_label=multi_label)
    collected.metadata.update(source=found.source, rows=sum(found.rows.values()), rejected=found.rejected)
    return sum(found.rows.values())


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def prepare(
    collected: dsl.Input[dsl.Dataset],
    dataset: dsl.Output[dsl.Dataset],
    pipeline_run: str,
    seed: int = 42,
    checks: Dict[str, float] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
    split: Dict[str, str] = {},  # noqa: B006, UP006
    labels: List[str] = [],  # noqa: B006, UP006
    ordinal: bool = False,
    multi_label: bool = False,
    mlflow_tracking_uri: str = "",
) -> str:
    """Reject unusable rows, remove copies and leaks, draw the splits that are missing, and fail if too much is wrong.

    Args:
        collected: what the collect step found.
        dataset: train, validation and test as Parquet, labels.json and report.json.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run.
        seed: fixes the split; the same rows and seed give the same digest.
        checks: limits of the data by name, such as max_rejected and min_rows_per_class; the run fails beyond one.
        split: how missing splits are drawn, by name: by (random, time or group), column, held_out, folds and more.
        labels: the task's classes in their order; empty for those of the data, by name.
        ordinal: whether the labels are steps from the lowest to the highest.
        multi_label: whether a text may have any number of labels, also none.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.

    Returns:
        The SHA-256 digest of the prepared rows.
    """
    from pathlib import Path

    import mlflow

    from components.data.prepare import prepare_folder
    from components.data.preparing.settings import Checks, Classes, SplitRule
    from components.platform.termination import one_sentence
    from components.platform.tracking import tracked_step

    with one_sentence(), tracked_step("prepare", pipeline_run, mlflow_tracking_uri) as step:
        limits, rule = Checks.named(checks), SplitRule.named(split)
        about = Classes(tuple(labels), ordinal, multi_label)
        report = prepare_folder(Path(collected.path), Path(dataset.path), seed, limits, rule, about)
        mlflow.log_metrics({f"{split}_rows": rows for split, rows in report["rows"].items()})
        step.headline(tags={"data_digest": report["sha256"]})
    classes = len(report["rows_by_label"]["train"])
    dataset.metadata.update(sha256=report["sha256"], classes=classes, rows=report["rows"])
    return str(report["sha256"])


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def inspect(
    dataset: dsl.Input[dsl.Dataset],
    label_errors: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    pipeline_run: str,
    seed: int = 42,
    mlflow_tracking_uri: str = "",
) -> int:
    """List what a person should look at: probable label errors, other languages, and what was left out. Drops nothing.

    Args:
        dataset: the prepared data.
        label_errors: a folder with label_errors.csv, the most suspect rows first.
        page: rows and classes, checks, rejects with examples, near-copies, languages and lengths on one page.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run.
        seed: fixes the folds, and the sample of large data.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.

    Returns:
        The number of probable label errors.
    """
    from pathlib import Path

    import mlflow

    from components.data.dataset import Dataset
    from components.data.inspection import ERRORS_FILE
    from components.data.inspection.inspect import inspect
    from components.data.inspection.page import render_inspection
    from components.platform.termination import one_sentence
    from components.platform.tracking import tracked_step

    with one_sentence(), tracked_step("inspect", pipeline_run, mlflow_tracking_uri):
        data = Dataset.load(Path(dataset.path))
        found = inspect(data, seed)
        folder = Path(label_errors.path)
        folder.mkdir(parents=True, exist_ok=True)
        found.save_errors(folder / ERRORS_FILE)
        Path(page.path).write_text(render_inspection(found, data.report), encoding="utf-8")
        mlflow.log_metrics({"label_errors": len(found.errors), "rows_in_another_language": len(found.foreign)})
    label_errors.metadata.update(rows=len(found.errors), judged=found.judged)
    return len(found.errors)
