"""Scoring from place to place: the three steps of a batch, as a pipeline runs them, and all of them on this machine."""

import time
from typing import Any

from components.scoring.manifest import merge, summary
from components.scoring.plan import MOST_SHARDS, Plan, Settings, make_plan
from components.scoring.store import Store, at_hand
from components.scoring.work import Entries, accept, pause, sentence, work
from predictor.errors import InputError
from predictor.model.bundle import Bundle
from predictor.model.classifier import Classifier


def plan_batch(place: str, bundle: str, out: str, settings: Settings, resume: bool = False) -> Plan:
    """Split an input into parts in the folder of a batch, or find the parts that are there.

    Args:
        place: a file, a folder of files, or the fsspec URI of a file.
        bundle: a bundle's folder or fsspec URI.
        out: the folder of the batch, or its fsspec URI.
        settings: how rows are scored.
        resume: whether a paused batch may go on.

    Raises:
        InputError: what `make_plan` says.
    """
    store = Store(out)
    with at_hand(bundle) as folder:
        plan = make_plan(store, place, Bundle.open(folder), settings)
    if resume:
        accept(store)
    return plan


def shards_of(plan: Plan, shards: int) -> list[int]:
    """Return the numbers of the shards that have parts.

    Raises:
        InputError: there are more than a pipeline runs.
    """
    if not 1 <= shards <= MOST_SHARDS:
        raise InputError(f"{shards} shards cannot be run: give 1 to {MOST_SHARDS}, and larger parts")
    return list(range(min(shards, len(plan.parts))))


def score_shard(bundle: str, out: str, shard: int, shards: int) -> bool:
    """Score every `shards`-th part of a batch from the number `shard` on; those that are finished are not done again.

    Returns:
        Whether they are all finished; if not, the batch is paused.

    Raises:
        InputError: there is no such shard, no plan, or the bundle is another.
    """
    if not 0 <= shard < shards <= MOST_SHARDS:
        raise InputError(f"there is no shard {shard} of {shards}: a batch has 1 to {MOST_SHARDS} shards, from 0 on")
    store = Store(out)
    plan = planned(store)
    with at_hand(bundle) as folder:
        classifier = Classifier(folder)
        try:
            return work(store, plan, plan.of_shard(shard, shards), classifier)
        finally:
            classifier.close()


def merge_batch(out: str) -> dict[str, Any]:
    """Write the manifest of a batch.

    Raises:
        InputError: the batch is paused, or a part is not finished.
    """
    store = Store(out)
    plan = planned(store)
    if reason := pause(store, plan, Entries(store, plan)()):
        raise InputError(f"{out} is {sentence(reason)}")
    return merge(store, plan)


def score_here(place: str, bundle: str, out: str, settings: Settings, resume: bool = False) -> dict[str, Any]:
    """Do all of it in this process, on all its cores, and return how the batch stands.

    Raises:
        InputError: as for the steps.
    """
    began = time.monotonic()
    store = Store(out)
    plan = plan_batch(place, bundle, out, settings, resume)
    if score_shard(bundle, out, 0, 1):
        merge(store, plan)
    return summary(store, plan, time.monotonic() - began)


def planned(store: Store) -> Plan:
    """Return the plan of a batch.

    Raises:
        InputError: there is none.
    """
    plan = Plan.read(store)
    if plan is None:
        raise InputError(f"{store.place} holds no batch: plan it first")
    return plan
