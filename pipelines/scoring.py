"""The scoring pipeline: from a large file of texts to labelled parts and their manifest."""

from typing import Dict, NamedTuple  # noqa: UP035 - KFP reads these in signatures

from kfp import dsl

from components.scoring.component import merge, plan, score


class Scored(NamedTuple):
    """The outputs of a run of the scoring pipeline."""

    manifest: str
    sha256: str
    rows: int


@dsl.pipeline(
    name="pigeonhole-scoring",
    display_name="Pigeonhole: score a large file",
    description="Split into parts, score the parts in up to 64 tasks, write the manifest.",
)
def scoring(
    data: str,
    bundle: str,
    out: str,
    columns: Dict[str, str] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
    canaries: str = "",
    probabilities: bool = False,
    part_rows: int = 20_000,
    shards: int = 8,
    resume: bool = False,
    push_url: str = "",
) -> Scored:
    """Score a large file.

    Args:
        data: a CSV, JSON lines or Parquet file, a folder of such files, or the URI of a file.
        bundle: the bundle's folder or object storage URI.
        out: folder or object storage URI of the batch, which all steps reach; a run into it goes on where it ended.
        columns: the input's names of columns by ours, such as {"text": "body", "label": "topic"}.
        canaries: a file with the columns text and label, whose rows are mixed in; empty for none.
        probabilities: whether the probabilities of all classes come out.
        part_rows: rows of a part.
        shards: into how many tasks the parts are divided, 64 at most.
        resume: whether a batch that its canaries have paused goes on.
        push_url: a Pushgateway that gets the batch's gauges; empty for none.
    """
    planned = plan(
        data=data, bundle=bundle, out=out, columns=columns, canaries=canaries, probabilities=probabilities,
        part_rows=part_rows, shards=shards, resume=resume,
    ).set_display_name("Plan")  # fmt: skip
    with dsl.ParallelFor(items=planned.output, name="shards") as shard:
        scored = score(bundle=bundle, out=out, shard=shard, shards=shards).set_display_name("Score")
    merged = merge(out=out, push_url=push_url).after(scored).set_display_name("Merge").outputs
    return Scored(manifest=merged["manifest"], sha256=merged["sha256"], rows=merged["rows"])
