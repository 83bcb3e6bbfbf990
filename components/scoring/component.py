"""KFP components of batch scoring."""

from typing import Dict, List, NamedTuple  # noqa: UP035 - KFP reads these in signatures

from kfp import dsl

from components import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def plan(
    data: str,
    bundle: str,
    out: str,
    columns: Dict[str, str] = {},  # noqa: B006, UP006 - KFP writes the default into the IR
    canaries: str = "",
    probabilities: bool = False,
    part_rows: int = 20_000,
    shards: int = 8,
    resume: bool = False,
) -> List[int]:  # noqa: UP006
    """Split the input into parts, each with its digest, or find those of an earlier run.

    Args:
        data: a CSV, JSON lines or Parquet file, a folder of such files, or the URI of a file.
        bundle: the bundle's folder or object storage URI.
        out: the batch's folder or object storage URI, which all steps reach.
        columns: the input's names of columns by ours, such as {"text": "body", "label": "topic"}.
        canaries: a file with the columns text and label, whose rows are mixed in; empty for none.
        probabilities: whether the probabilities of all classes come out.
        part_rows: rows of a part.
        shards: into how many tasks the parts are divided, 64 at most.
        resume: whether a paused batch goes on.

    Returns:
        The numbers of the shards.
    """
    from components.platform.termination import one_sentence
    from components.scoring.plan import Settings
    from components.scoring.steps import plan_batch, shards_of

    with one_sentence():
        text, label = columns.get("text", "text"), columns.get("label", "label")
        settings = Settings(text, label, canaries, probabilities, part_rows)
        made = plan_batch(data, bundle, out, settings, resume)
        return shards_of(made, shards)


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def score(bundle: str, out: str, shard: int, shards: int) -> bool:
    """Score the parts of one shard that are not finished.

    Args:
        bundle: the bundle's folder or object storage URI.
        out: the batch's folder or object storage URI.
        shard: the number of the shard.
        shards: how many there are.

    Returns:
        Whether all of them are finished; if not, the batch is paused.
    """
    from components.platform.termination import one_sentence
    from components.scoring.steps import score_shard

    with one_sentence():
        return score_shard(bundle, out, shard, shards)


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def merge(out: str, push_url: str = "") -> NamedTuple("Merged", manifest=str, sha256=str, rows=int):  # type: ignore[valid-type]
    """Write the manifest of the batch; fail if it is paused.

    Args:
        out: the batch's folder or object storage URI.
        push_url: a Pushgateway that gets the batch's gauges; empty for none.

    Returns:
        The manifest's address, the digest of all that came out, and the number of rows.
    """
    from collections import namedtuple

    from components.platform.termination import one_sentence
    from components.scoring.gauges import publish_batch
    from components.scoring.steps import merge_batch

    with one_sentence():
        try:
            manifest = merge_batch(out)
        finally:
            publish_batch(out, push_url)
    Merged = namedtuple("Merged", ["manifest", "sha256", "rows"])
    return Merged(f"{out.rstrip('/')}/manifest.json", manifest["sha256"], manifest["rows"])
