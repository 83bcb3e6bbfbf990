"""From several answers a row to one label, or to none where they are as good."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from components.labelling import label_studio
from components.labelling.aggregation import Consensus, dawid_skene, majority
from components.labelling.agreement import Numbers, cohen_pairs, fleiss, krippendorff
from components.labelling.annotators import judge, wilson
from components.labelling.rows import records
from components.labelling.suggest import RANDOM
from predictor.errors import InputError

METHODS = ("majority", "dawid-skene")
TIES = ("drop", "ask", "first-annotator")
COLUMNS = ("id", "text", "label", "source", "collected_at", "annotators", "agreement")
NEEDED = ("id", "text", "annotator", "label")
_LISTED = 50
"""Rows that disagree, and pairs of annotators, that the report names."""


@dataclass(frozen=True)
class Merged:
    """Rows with their labels, tasks to ask again, and the report."""

    rows: pd.DataFrame
    ask: list[dict[str, Any]]
    report: dict[str, Any]


def merge(annotations: pd.DataFrame, method: str, ties: str) -> Merged:
    """Give each row one label.

    The result does not depend on the order of rows or annotators. A row whose answers are all the same keeps their
    label. Where two labels are as good (as many votes, or probabilities of Dawid-Skene less than 0.01 apart), `ties`
    says what happens: `drop` leaves the row out, `ask` makes a task of it for one more annotator, `first-annotator`
    takes that of the best labels which was given first, and leaves the row out where times are missing or equal.

    Args:
        annotations: the table of `components.labelling.annotations`; `at`, `source`, `picked` and `predicted` may lack.
        method: `majority` or `dawid-skene`.
        ties: `drop`, `ask` or `first-annotator`.

    Raises:
        InputError: a cell is missing, one id stands for two texts, an annotator answered a row twice, or the method
            or policy is unknown.
    """
    if method not in METHODS or ties not in TIES:
        raise InputError(f"there is no method '{method}' with ties '{ties}': see pigeonhole label merge --help")
    frame = _checked(annotations)
    (ids, rows), (names, who), (labels, given) = (_numbered(frame[name]) for name in ("id", "annotator", "label"))
    found = majority(rows, given) if method == "majority" else dawid_skene(rows, who, given)
    chosen = _decided(found, rows, given, frame, ties)
    votes = [
        Counter(part) for part in np.split(given[np.argsort(rows, kind="stable")], np.cumsum(np.bincount(rows))[:-1])
    ]
    table = _table(frame, ids, labels, chosen, votes)
    tied = [row for row, best in enumerate(found.best) if len(best) > 1]
    report = {
        "method": method,
        "rows": len(ids),
        "labelled": int((chosen >= 0).sum()),
        "ties": {
            "policy": ties,
            "rows": len(tied),
            "decided": int((chosen[tied] >= 0).sum()),
            "left_out": int((chosen[tied] < 0).sum()),
        },
        "unanimous_rows_kept_against_dawid_skene": found.overruled,
        "note": found.note,
        "rows_by_label": dict(Counter(table["label"]).most_common()),
        "agreement": _agreement(rows, who, given, names),
        "annotators": judge(rows, who, given, names),
        "disagreeing_rows": sum(len(each) > 1 for each in votes),
        "most_disagreeing": _most_disagreeing(ids, labels, chosen, votes),
        "model": _model_on_random_rows(frame, table),
    }
    first = frame.drop_duplicates("id").set_index("id")
    again = [ids[row] for row in tied] if ties == "ask" else []
    ask = [label_studio.task(name, str(first.at[name, "text"]), str(first.at[name, "source"] or "")) for name in again]
    return Merged(table, ask, report)


def _checked(annotations: pd.DataFrame) -> pd.DataFrame:
    wanted = [*NEEDED, "at", "source", "picked", "predicted"]
    frame = pd.DataFrame(records(annotations.reindex(columns=wanted)), columns=wanted, dtype=object)
    for name in NEEDED:
        blank = [not str(cell or "").strip() for cell in frame[name]]
        if any(blank):
            raise InputError(f"row {blank.index(True) + 1} of the annotations has no {name}: run label import first")
    if (frame.groupby("id")["text"].nunique() > 1).any():
        twice = frame.groupby("id")["text"].nunique().idxmax()
        raise InputError(f"the id '{twice}' stands for two texts: merge the annotations of two projects each alone")
    if frame.duplicated(["id", "annotator"]).any():
        again = frame[frame.duplicated(["id", "annotator"])].iloc[0]
        raise InputError(f"'{again['annotator']}' answers row '{again['id']}' twice: run label import first")
    # Parsed, since one file may write +00:00 and another Z
    frame["at"] = pd.to_datetime(frame["at"], errors="coerce", utc=True, format="ISO8601")
    return frame.sort_values(["id", "annotator"], ignore_index=True)


def _numbered(names: "pd.Series[Any]") -> tuple[list[str], Numbers]:
    """Return the different names in order, and the place of each name among them."""
    places, different = pd.factorize(names, sort=True)
    return different.tolist(), places.astype(np.int64)


def _decided(found: Consensus, rows: Numbers, given: Numbers, frame: pd.DataFrame, ties: str) -> Numbers:
    """Return the label number of each row, -1 where it gets none."""
    chosen = np.array([best[0] if len(best) == 1 else -1 for best in found.best], dtype=np.int64)
    if ties != "first-annotator":
        return chosen
    answers = pd.DataFrame({"row": rows, "label": given, "at": frame["at"]})
    for row in np.flatnonzero(chosen < 0).tolist():
        part = answers.iloc[np.searchsorted(rows, row) : np.searchsorted(rows, row, "right")]
        part = part[part["label"].isin(found.best[row])]
        first = part[part["at"] == part["at"].min()]
        if part["at"].notna().all() and first["label"].nunique() == 1:
            chosen[row] = first["label"].iloc[0]
    return chosen


def _table(
    frame: pd.DataFrame, ids: Sequence[str], labels: Sequence[str], chosen: Numbers, votes: list[Counter[int]]
) -> pd.DataFrame:
    first = frame.drop_duplicates("id").set_index("id")
    last = frame.groupby("id")["at"].max()
    now = pd.Timestamp(datetime.now(UTC))
    rows = [
        (
            name, first.at[name, "text"], labels[label], first.at[name, "source"] or "labelling",
            (now if pd.isna(last[name]) else last[name]).isoformat(timespec="seconds"),
            votes[row].total(), round(votes[row][label] / votes[row].total(), 4),
        )
        for row, (name, label) in enumerate(zip(ids, chosen.tolist(), strict=True)) if label >= 0
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _agreement(rows: Numbers, who: Numbers, given: Numbers, names: Sequence[str]) -> dict[str, Any]:
    found = sorted(cohen_pairs(rows, who, given).items(), key=lambda pair: (-pair[1][0], pair[0]))
    pairs = [
        {"annotators": f"{names[one]}, {names[other]}", "rows": count, "kappa": _rounded(kappa)}
        for (one, other), (count, kappa) in found[:_LISTED]
    ]
    taken, kappa = fleiss(rows, given)
    return {
        "krippendorff_alpha": _rounded(krippendorff(rows, given)),
        "fleiss_kappa": _rounded(kappa),
        "fleiss_rows": taken,
        "cohen_kappa": pairs,
    }


def _most_disagreeing(
    ids: Sequence[str], labels: Sequence[str], chosen: Numbers, votes: list[Counter[int]]
) -> list[dict[str, Any]]:
    split = [row for row, each in enumerate(votes) if len(each) > 1]
    split.sort(key=lambda row: (votes[row].most_common(1)[0][1] / votes[row].total(), ids[row]))
    return [
        {
            "id": str(ids[row]),
            "answers": ", ".join(f"{labels[label]} {count}" for label, count in sorted(votes[row].items())),
            "label": str(labels[chosen[row]]) if chosen[row] >= 0 else None,
        }
        for row in split[:_LISTED]
    ]


def _model_on_random_rows(frame: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any] | None:
    """Return how often the model was right on the rows that were drawn at random; None where there are none."""
    drawn = frame[(frame["picked"] == RANDOM) & frame["predicted"].notna()].drop_duplicates("id").set_index("id")
    labelled = table[table["id"].isin(drawn.index)]
    if labelled.empty:
        return None
    right = int((labelled["label"].to_numpy() == drawn.loc[labelled["id"], "predicted"].to_numpy()).sum())
    low, high = wilson(right, len(labelled))
    return {
        "random_rows": len(drawn), "of_them_labelled": len(labelled),
        "accuracy": round(right / len(labelled), 4), "low": round(low, 4), "high": round(high, 4),
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
