"""KFP components of the data stage."""

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def collect(data: str, collected: dsl.Output[dsl.Dataset]) -> int:
    """Collect labelled texts and check that they have the columns the pipeline needs.

    Args:
        data: `sample`, a folder with train and test files (CSV, JSON lines, Parquet), or hf:NAME for a hub data set.
        collected: a Parquet file for each split that was found.

    Returns:
        The number of rows in all splits.
    """
    from pathlib import Path

    from components.data.sources import collect
    from components.platform.progress import say
    from components.platform.termination import one_sentence

    with one_sentence():
        frames = collect(data)
        folder = Path(collected.path)
        folder.mkdir(parents=True, exist_ok=True)
        for split, frame in frames.items():
            frame.to_parquet(folder / f"{split}.parquet", index=False)
            say(f"{len(frame):,} {split} rows from {data}")
    rows = sum(map(len, frames.values()))
    collected.metadata.update(source=data, rows=rows)
    return rows


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def prepare(
    collected: dsl.Input[dsl.Dataset],
    dataset: dsl.Output[dsl.Dataset],
    pipeline_run: str,
    seed: int = 42,
    mlflow_tracking_uri: str = "",
) -> str:
    """Reject unusable rows, remove copies and leaks, and draw the splits that are missing.

    Args:
        collected: what the collect step found.
        dataset: train, validation and test as Parquet, labels.json and report.json.
        pipeline_run: id of the pipeline run, which ties the steps to one MLflow run.
        seed: fixes the split; the same rows and seed give the same digest.
        mlflow_tracking_uri: the MLflow server; empty for what the step's environment says.

    Returns:
        The SHA-256 digest of the prepared rows.
    """
    from pathlib import Path

    import mlflow
    import pandas as pd

    from components.data.prepare import prepare
    from components.platform.termination import one_sentence
    from components.platform.tracking import tracked_step

    with one_sentence(), tracked_step("prepare", pipeline_run, mlflow_tracking_uri) as step:
        frames = {file.stem: pd.read_parquet(file) for file in sorted(Path(collected.path).glob("*.parquet"))}
        prepared = prepare(frames, seed)
        prepared.save(Path(dataset.path))
        mlflow.log_metrics({f"{split}_rows": rows for split, rows in prepared.report["rows"].items()})
        step.headline(tags={"data_digest": prepared.digest})
    dataset.metadata.update(sha256=prepared.digest, classes=len(prepared.labels), rows=prepared.report["rows"])
    return prepared.digest
