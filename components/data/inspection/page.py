"""The HTML page of an inspection: self-contained, without scripts, short even with thousands of classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from components.data.dataset import SPLITS
from components.data.inspection.inspect import Inspection
from components.platform.pages import page_environment

# Classes of which each gets a row; of more, half as many of the largest and of the smallest are shown.
_MOST_CLASSES = 40
_MOST_ERRORS, _MOST_FOREIGN, _MOST_LANGUAGES, _MOST_EXAMPLES = 50, 15, 12, 5
_MOST_CHARS = 280


def render_inspection(inspection: Inspection, report: dict[str, Any]) -> str:
    """Return the page.

    Args:
        inspection: what was found in the prepared rows.
        report: content of the dataset's `report.json`; of its keys, `rows` and `rows_by_label` are required.
    """
    environment = page_environment(Path(__file__).parent)
    environment.filters.update(percent=_percent, shown=_shown, figure=_figure, name=_name)
    figures = report.get("figures", {})
    return environment.get_template("inspection.html").render(
        inspection=inspection,
        report=report,
        splits=SPLITS,
        rows=sum(report["rows"].values()),
        left_out=_left_out(report),
        examples={reason: rows[:_MOST_EXAMPLES] for reason, rows in report.get("examples", {}).items() if rows},
        near=report.get("near_duplicates", {}),
        near_examples=report.get("near_duplicates", {}).get("examples", [])[:_MOST_EXAMPLES],
        checks=[
            {"name": name, "limit": limit, "figure": figures.get(name), "holds": _holds(name, limit, figures.get(name))}
            for name, limit in report.get("checks", {}).items()
        ],
        classes=_classes(report["rows_by_label"]),
        errors=_records(inspection.errors, _MOST_ERRORS),
        foreign=_records(inspection.foreign, _MOST_FOREIGN),
        languages=list(inspection.languages.items())[:_MOST_LANGUAGES],
        most=max(count for _, count in inspection.lengths.bars),
    )


def _left_out(report: dict[str, Any]) -> list[tuple[str, int]]:
    """Return what was left out and how many rows, with the rejects of the collect step first."""
    found = list(report.get("collected", {}).get("rejected", {}).items()) + list(report.get("rejected", {}).items())
    copies = report.get("duplicates", {})
    if removed := copies.get("removed from train"):
        conflicts = copies.get("of them with conflicting labels", 0)
        found += [("train: copy of another row", removed - conflicts), ("train: same text, other label", conflicts)]
    found += report.get("leakage", {}).items()
    return [(reason, count) for reason, count in found if count]


def _classes(by_label: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Return the classes to show, the largest first, with their rows in each split and the share of the largest."""
    totals = {label: sum(by_label[split].get(label, 0) for split in SPLITS) for label in by_label["train"]}
    order = sorted(totals, key=lambda label: -totals[label])
    half = _MOST_CLASSES // 2
    groups = [("", order)]
    if len(order) > _MOST_CLASSES:
        groups = [(f"the {half} largest", order[:half]), (f"the {half} smallest", order[-half:])]
    largest = max(totals.values())
    rows = {
        title: [
            {
                "label": label,
                "rows": [by_label[split].get(label, 0) for split in SPLITS],
                "share": totals[label] / max(1, largest),
            }
            for label in labels
        ]
        for title, labels in groups
    }
    sizes = [totals[label] for label in order]
    untested = sum(not by_label["test"].get(label, 0) for label in order)
    return {
        "groups": rows, "count": len(order), "largest": sizes[0], "median": sizes[len(sizes) // 2],
        "smallest": sizes[-1], "untested": untested,
    }  # fmt: skip


def _records(frame: pd.DataFrame, most: int) -> Sequence[dict[str, Any]]:
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.head(most).itertuples(index=False)]


def _holds(name: str, limit: float, figure: float | None) -> bool | None:
    if figure is None:
        return None
    return figure >= limit if name.startswith("min") else figure <= limit


def _percent(share: float) -> str:
    """Return a share as a percentage; what is there but rounds to nothing is said to be below."""
    return "below 0.1%" if 0 < share < 0.001 else f"{100 * share:.1f}%"


def _figure(value: float | None, name: str) -> str:
    """Return a threshold or figure of a check, which is a share, a number of rows or a ratio."""
    if value is None:
        return "not known"
    is_share = not name.startswith("min") and name not in ("max_imbalance", "max_characters")
    return _percent(value) if is_share else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _name(name: str) -> str:
    return name.replace("_", " ")


def _shown(text: object, most: int = _MOST_CHARS) -> str:
    """Return a text that people can read: cut, with characters that print nothing made visible."""
    cut = str(text)[: most + 1]
    cut = cut[:most] + "…" if len(cut) > most else cut
    return "".join(
        character if character.isprintable() else "·" if character.isspace() else "\ufffd" for character in cut
    )
