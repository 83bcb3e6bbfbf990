"""Scores the parts of a plan one after another; whatever is finished is never done again.

In the folder of a batch `output/NAME.parquet` is written first and `entries/NAME.json` second, each aside and then
renamed. A part counts as finished when its entry is there and names the bytes of the output; after a kill the part that
was under way is scored anew, and gives the same bytes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from components.platform.progress import Progress, say
from components.scoring.canary import LEVEL, MARGIN, Tally, shown_below
from components.scoring.part import Counts, score_part
from components.scoring.plan import Part, Plan, Settings, input_name
from components.scoring.store import Store
from predictor.errors import InputError
from predictor.model.bundle import sha256_of
from predictor.model.classifier import Classifier

PAUSED = "paused.json"
ACCEPTED = "accepted.json"


@dataclass(frozen=True)
class Entry:
    """A finished part."""

    plan: str
    """The digest of the batch."""
    part: str
    sha256: str
    """Of the output."""
    counts: Counts
    cost: dict[str, float]
    """`seconds` and `cpu_seconds` that it took, on all cores together."""

    @classmethod
    def read(cls, store: Store, name: str) -> "Entry | None":
        """Return the entry of a part; None where it is not finished."""
        content = store.read(f"entries/{name}.json")
        if content is None:
            return None
        counts = content.pop("counts")
        return cls(**content, counts=Counts(**{**counts, "canaries": Tally(**counts["canaries"])}))

    def write(self, store: Store) -> None:
        """Say that the part is finished."""
        store.write(f"entries/{self.part}.json", asdict(self))


def output_name(name: str) -> str:
    """Return the name of a part's file when it is scored."""
    return f"output/{name}.parquet"


class Entries:
    """The finished parts of a batch, whoever finished them; each entry is read once.

    Args:
        store: the folder.
        plan: the batch; entries of another one, which was there before, are left aside.
    """

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store, self._plan = store, plan
        self._found: dict[str, Entry] = {}

    def __call__(self) -> dict[str, Entry]:
        """Return all that are there now, by the names of the parts."""
        there = self._store.names("entries")
        self._found = {name: entry for name, entry in self._found.items() if f"{name}.json" in there}
        for name in sorted(there - {f"{known}.json" for known in self._found}):
            entry = Entry.read(self._store, name.removesuffix(".json"))
            if entry and entry.plan == self._plan.digest:
                self._found[entry.part] = entry
        return self._found


def work(
    store: Store, plan: Plan, parts: Sequence[Part], classifier: Classifier, entries: Entries | None = None
) -> bool:
    """Score the parts that are not finished, in order, until all are or the batch is paused.

    Args:
        store: the folder of the batch.
        plan: the batch.
        parts: those of it that are this worker's.
        classifier: the plan's bundle.
        entries: of the batch, as far as this worker has read them.

    Returns:
        Whether all of these parts are finished; if not, the batch is paused.

    Raises:
        InputError: the bundle is another, or a part was changed.
    """
    if classifier.bundle.digest != plan.bundle:
        raise InputError(f"{classifier.bundle.path} is not the bundle of {store.place}: give {plan.bundle[:12]}")
    entries = entries or Entries(store, plan)
    known = entries()  # once: a listing for each of thousands of parts takes object storage longer than the parts do
    left = [part for part in parts if not _finished(store, part, known)]
    total, skipped = sum(part.rows for part in parts), sum(part.rows for part in parts if part not in left)
    if skipped:
        say(f"{skipped:,} of {total:,} rows are finished already")
    progress, done = Progress("score", total, "rows", done=skipped), skipped
    for part in left:
        if pause(store, plan, entries()):
            return False
        _score(store, plan, part, classifier, partial(_after, progress, done))
        done += part.rows
        progress(done)
    return not pause(store, plan, entries())


def _after(progress: Progress, before: int, rows: int) -> None:
    """Report the rows of a part that are finished, after those of the parts before it."""
    progress(before + rows)


def _finished(store: Store, part: Part, entries: dict[str, Entry]) -> bool:
    """Whether a part is finished; an entry whose output was damaged meanwhile is removed."""
    entry = entries.get(part.name)
    if entry is None:
        return False
    if store.digest(output_name(part.name)) == entry.sha256:
        return True
    say(f"{store.where(output_name(part.name))} is damaged: the part is scored again")
    store.remove(f"entries/{part.name}.json")
    return False


def _score(store: Store, plan: Plan, part: Part, classifier: Classifier, done: Callable[[int], None]) -> None:
    settings = Settings(**plan.settings)
    began, cpu = time.perf_counter(), time.process_time()
    with store.reading(input_name(part)) as source:
        if sha256_of(source) != part.sha256:
            raise InputError(f"{store.where(input_name(part))} was changed: remove {store.place} and score anew")
        with store.writing(output_name(part.name)) as target:
            counts = score_part(source, target, classifier, settings, done)
            digest = sha256_of(target)
    if counts.rows != part.rows:
        raise AssertionError(f"{part.name}: {counts.rows} rows of {part.rows}")
    cost = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    Entry(plan.digest, part.name, digest, counts, {name: round(value, 3) for name, value in cost.items()}).write(store)


def pause(store: Store, plan: Plan, entries: dict[str, Entry]) -> dict[str, Any] | None:
    """Return why the batch is paused, None if it is not; pause it if its canaries show that it has to be.

    Parts that somebody has looked at do not count any more.
    """
    if (known := store.read(PAUSED)) and known["plan"] == plan.digest:
        return known
    accepted = set(_accepted(store, plan.digest))
    fresh = [entry for name, entry in sorted(entries.items()) if name not in accepted]
    tally = Tally.total(entry.counts.canaries for entry in fresh)
    if not shown_below(tally, plan.baseline):
        return None
    reason = {
        "plan": plan.digest,
        "canaries": tally.rows,
        "right": tally.right,
        "accuracy": round(tally.accuracy or 0.0, 4),
        "baseline": plan.baseline,
        "margin": MARGIN,
        "level": LEVEL,
        "parts": [entry.part for entry in fresh],
    }
    store.write(PAUSED, reason)
    return reason


def sentence(reason: dict[str, Any]) -> str:
    """Return why a batch is paused, and what to do."""
    return (
        f"paused: of {reason['canaries']:,} labelled rows {reason['accuracy']:.1%} are right, shown to be more than "
        f"{100 * reason['margin']:.0f} points under the bundle's {reason['baseline']:.1%}; look at the data and the "
        "bundle, then go on with --resume, or score with another bundle into another folder"
    )


def accept(store: Store) -> None:
    """Let a paused batch go on: what its canaries have shown so far counts no more, what they show from now on does."""
    reason = store.read(PAUSED)
    if reason is None:
        return
    parts = {*_accepted(store, reason["plan"]), *reason["parts"]}
    store.write(ACCEPTED, {"plan": reason["plan"], "parts": sorted(parts)})
    store.remove(PAUSED)


def _accepted(store: Store, plan: str) -> list[str]:
    """Return the parts that somebody has looked at."""
    known = store.read(ACCEPTED) or {}
    return list(known["parts"]) if known.get("plan") == plan else []
