"""What a batch is and what came of it: `manifest.json`, the same bytes however it was run, and `cost.json`."""

import hashlib
from collections import Counter
from importlib import metadata
from typing import Any

from components.scoring.canary import Tally
from components.scoring.plan import MANIFEST, Plan
from components.scoring.store import Store
from components.scoring.work import Entries, Entry, output_name, pause, sentence
from predictor import __version__
from predictor.errors import InputError

COST = "cost.json"
_VERSIONS = ("numpy", "onnxruntime", "pyarrow", "tokenizers")
BILLION = 1_000_000_000


def merge(store: Store, plan: Plan) -> dict[str, Any]:
    """Write the manifest of a batch whose parts are all finished, and what it cost.

    Returns:
        The manifest.

    Raises:
        InputError: a part is not finished.
    """
    entries = Entries(store, plan)()
    written = store.names("output")
    for part in plan.parts:
        if part.name not in entries or f"{part.name}.parquet" not in written:
            raise InputError(f"{store.place} lacks {part.name}: start the same command again, it goes on there")
    store.tidy()
    finished = [entries[part.name] for part in plan.parts]
    parts = [
        {"file": output_name(part.name), "rows": part.rows, "input_sha256": part.sha256, "sha256": entry.sha256}
        for part, entry in zip(plan.parts, finished, strict=True)
    ]
    manifest = {
        "input": plan.input,
        "bundle": plan.bundle,
        "model": plan.model,
        "labels": plan.labels,
        "settings": plan.settings,
        "rows": plan.rows,
        # Of the parts' digests: it names all bytes that came out.
        "sha256": hashlib.sha256("\n".join(entry.sha256 for entry in finished).encode()).hexdigest(),
        "labelled": _sums(plan, [entry.counts.labels for entry in finished]),
        "unlabelled": _sums(plan, [entry.counts.unlabelled for entry in finished]),
        "canaries": _canaries(plan, entries),
        "versions": {"pigeonhole": __version__, **{name: metadata.version(name) for name in _VERSIONS}},
        "parts": parts,
    }
    store.write(MANIFEST, manifest)
    store.write(COST, cost(finished))
    return manifest


def tally_of(plan: Plan, entries: dict[str, Entry]) -> Tally:
    """Return the labelled rows of the parts that are finished."""
    return Tally.total(entries[part.name].counts.canaries for part in plan.parts if part.name in entries)


def _canaries(plan: Plan, entries: dict[str, Entry]) -> dict[str, Any]:
    tally = tally_of(plan, entries)
    return {
        "rows": tally.rows,
        "right": tally.right,
        "accuracy": None if tally.accuracy is None else round(tally.accuracy, 4),
        "baseline": plan.baseline,
        "not_counted": sum(entries[part.name].counts.foreign for part in plan.parts if part.name in entries),
    }


def cost(entries: list[Entry]) -> dict[str, Any]:
    """Return what finished parts cost: time of cores, whatever waited for a core not counted."""
    rows = sum(entry.counts.rows for entry in entries)
    cpu = sum(entry.cost["cpu_seconds"] for entry in entries)
    return {
        "rows": rows,
        "part_seconds": round(sum(entry.cost["seconds"] for entry in entries), 1),
        "core_seconds": round(cpu, 1),
        "rows_per_core_second": round(rows / cpu, 1) if cpu else None,
        "core_hours_per_billion": round(cpu / rows * BILLION / 3600, 1) if rows else None,
    }


def summary(store: Store, plan: Plan, seconds: float) -> dict[str, Any]:
    """Return for people how a batch stands; where it is finished, its manifest is there."""
    entries = Entries(store, plan)()
    finished = [entries[part.name] for part in plan.parts if part.name in entries]
    reason = pause(store, plan, entries)
    manifest = store.read(MANIFEST) if len(finished) == len(plan.parts) and reason is None else None
    return {
        "output": store.where("output"),
        "manifest": store.where(MANIFEST) if manifest else None,
        "paused": reason is not None,
        "reason": sentence(reason) if reason else None,
        "rows": plan.rows,
        "finished_rows": sum(entry.counts.rows for entry in finished),
        "sha256": manifest["sha256"] if manifest else None,
        "labelled": _sums(plan, [entry.counts.labels for entry in finished]),
        "unlabelled": _sums(plan, [entry.counts.unlabelled for entry in finished]),
        "canaries": _canaries(plan, entries),
        "cost": cost(finished),
        "seconds": round(seconds, 1),
    }


def _sums(plan: Plan, counts: list[dict[str, int]]) -> dict[str, int]:
    """Return the sums by name: labels in the bundle's order first, then what else there is by name."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return {name: total[name] for name in (*plan.labels, *sorted(set(total) - set(plan.labels))) if total[name]}
