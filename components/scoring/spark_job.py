"""Scoring with Spark: a task for each part, the plan and the manifest on the driver.

    spark-submit components/scoring/spark_job.py INPUT --bundle BUNDLE --out OUT

Every executor reaches the bundle and the folder of the batch under the same address: a shared volume, or object
storage. The bytes are those of the other ways to run a batch, since each task calls the same function on the same part.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any

from components.scoring.manifest import merge, summary
from components.scoring.plan import PART_ROWS, Plan, Settings
from components.scoring.steps import plan_batch, planned
from components.scoring.store import Store, at_hand
from components.scoring.work import Entries, work
from predictor.errors import InputError
from predictor.model.classifier import Classifier

_entries: dict[tuple[str, str], Entries] = {}
"""Of batches, by folder and digest: this Python worker reads each entry once, and not again for each of its tasks."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the job's arguments."""
    made = argparse.ArgumentParser(description="Score a large file with Spark.")
    made.add_argument("input", help="a file, a folder of files, or the URI of a file")
    made.add_argument("--bundle", required=True, help="the bundle's folder or URI")
    made.add_argument("--out", required=True, help="the folder or URI of the batch")
    made.add_argument("--text", default="text", help="the column with the texts")
    made.add_argument("--label", default="label", help="the column with labels, where some rows have one")
    made.add_argument("--canaries", default="", help="a file of labelled rows to mix in")
    made.add_argument("--probabilities", action="store_true", help="add the probabilities of all classes")
    made.add_argument("--part-rows", type=int, default=PART_ROWS, help="rows of a part")
    made.add_argument("--resume", action="store_true", help="go on with a paused batch")
    return made


def score_with(spark: Any, place: str, bundle: str, out: str, settings: Settings, resume: bool = False) -> Plan:
    """Score a batch with the executors of a Spark session; its manifest is there unless it is paused.

    Args:
        spark: the session.
        place: a file, a folder of files, or the URI of a file.
        bundle: the bundle's folder or URI.
        out: the folder or URI of the batch.
        settings: how rows are scored.
        resume: whether a paused batch may go on.

    Raises:
        InputError: the input, the bundle or the folder is not what it should be.
    """
    plan = plan_batch(place, bundle, out, settings, resume)
    numbers = spark.sparkContext.parallelize(range(len(plan.parts)), len(plan.parts))
    if all(numbers.mapPartitions(partial(score_parts, bundle, out)).collect()):
        merge(Store(out), plan)
    return plan


def score_parts(bundle: str, out: str, numbers: Iterable[int]) -> Iterator[bool]:
    """Yield for each part of a task whether it is finished; if not, the batch is paused."""
    store = Store(out)
    plan = planned(store)
    entries = _entries.setdefault((out, plan.digest), Entries(store, plan))
    for number in numbers:
        yield work(store, plan, [plan.parts[number]], _classifier(bundle), entries)


@cache
def _classifier(bundle: str) -> Classifier:
    """Return the classifier of this Python worker, which Spark keeps for the next task."""
    with at_hand(bundle) as folder:
        return Classifier(folder)


def main(arguments: Sequence[str]) -> int:
    """Run the job and return the exit code: 0 done, 1 paused, 2 wrong use."""
    from pyspark.sql import SparkSession

    asked = parser().parse_args(arguments)
    settings = Settings(asked.text, asked.label, asked.canaries, asked.probabilities, asked.part_rows)
    spark = SparkSession.builder.appName("pigeonhole-scoring").getOrCreate()
    try:
        plan = score_with(spark, asked.input, asked.bundle, asked.out, settings, asked.resume)
        result = summary(Store(asked.out), plan, 0.0)
    except InputError as error:
        print(f"pigeonhole: {error}", file=sys.stderr)
        return 2
    finally:
        spark.stop()
    print(result)
    return 1 if result["paused"] else 0


if __name__ == "__main__":
    # Spark sends functions of this file to the executors as code, and those of a module by name: only there does the
    # classifier of a worker last from one task to the next.
    from components.scoring import spark_job

    sys.exit(spark_job.main(sys.argv[1:]))
