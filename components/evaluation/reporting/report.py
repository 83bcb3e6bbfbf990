"""The report of a run: one page, and the same in Markdown, with the gate's decision and what it rests on."""

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median_low
from typing import Any

from components.evaluation import metrics
from components.evaluation.gate import GateDecision
from components.evaluation.reporting.charts import class_chart, curve_chart, reliability_chart, selective_chart
from components.evaluation.scores import MOST_SHOWN, Evaluation, LabelCounts, SliceScore, listed, worst_and_best
from components.platform.pages import page_environment

_MOST_SLICES = 30
_CURVES = {
    "Loss": {"train": "train_loss", "validation": "validation_loss"},
    "Validation accuracy": {"validation": "validation_accuracy"},
}


@dataclass(frozen=True)
class Report:
    """The same report for a browser and for a text."""

    html: str
    markdown: str


def render_report(
    evaluation: Evaluation, decision: GateDecision, training: dict[str, Any], data: dict[str, Any]
) -> Report:
    """Return the report. With many classes its length no longer grows with their number.

    Args:
        evaluation: test results.
        decision: what the gate decided.
        training: content of the checkpoint's `training.json`.
        data: content of the dataset's `report.json`.
    """
    environment = page_environment(Path(__file__).parent)
    environment.filters["percent"] = lambda share: f"{100 * share:.2f}%"
    environment.filters["cell"] = _cell
    shown, matrix = evaluation.matrix() if evaluation.score.sets is None else ([], [])
    many = len(evaluation.labels) > MOST_SHOWN
    worst, best = worst_and_best(evaluation.score.classes)
    champion = evaluation.champion
    theirs = champion.score if champion else None
    found = {
        "evaluation": evaluation,
        "score": evaluation.score,
        "champion": champion,
        "before": {row.label: row for row in theirs.classes} if theirs else {},
        "figures": _figures(evaluation),
        "gaps": _gaps(data["rows_by_label"]),
        "decision": decision,
        "checks": sorted(decision.checks, key=lambda check: check.passed),
        "training": training,
        "data": data,
        "matrix": list(zip(shown, _matrix(matrix), strict=True)),
        "many": many,
        "pairs": _pairs(evaluation) if many and evaluation.score.sets is None else [],
        "classes": {"Lowest F1": worst, "Highest F1": best} if many else {"": evaluation.score.classes},
        "slices": _worst_slices(evaluation, found=False),
        "weak": _worst_slices(evaluation, found=True),
        "spread": {name: _spread(list(rows.values())) for name, rows in data["rows_by_label"].items()} if many else {},
        "charts": [
            reliability_chart(evaluation.score, theirs),
            selective_chart(evaluation.score, theirs),
            class_chart(evaluation.score.classes, theirs.classes if theirs else None),
        ],
        "counts": _counts(evaluation),
        "curves": [
            curve_chart(_figure(name, evaluation), training["history"], series) for name, series in _CURVES.items()
        ]
        if len(training["history"]) > 1
        else [],
        "size_mb": evaluation.size_bytes / 1e6,
    }
    return Report(*(environment.get_template(f"report.{kind}").render(**found) for kind in ("html", "md")))


def _cell(text: object) -> str:
    """Return user text for a cell of a Markdown table, which shows it as it is."""
    words = " ".join(str(text).split())
    return "".join(f"&#{ord(letter)};" if letter in "|<>&*_`[]\\#!~$" else letter for letter in words)


def _figures(evaluation: Evaluation) -> list[dict[str, str]]:
    """Return value and words of each metric but the main one, which has a figure of its own with its interval."""
    tested = len(evaluation.labels) - len(evaluation.unknown)
    return [
        {
            "value": metric.shown(metric.value(evaluation)),
            "words": metric.title + (f" of {tested} classes" if metric.of_classes and evaluation.unknown else ""),
        }
        for metric in metrics.metrics_of(evaluation)
        if metric.name != ("micro_f1" if evaluation.score.sets else "accuracy")
    ]


def _figure(name: str, evaluation: Evaluation) -> str:
    """Return what a curve is of: where rows have any number of labels, epochs are compared by micro F1."""
    return name.replace("accuracy", "micro F1") if evaluation.score.sets else name


def _counts(evaluation: Evaluation) -> list[LabelCounts]:
    """Return the rows by what is said of a label, of each; of many labels those with the most wrong decisions."""
    sets = evaluation.score.sets
    if sets is None or len(sets.counts) <= MOST_SHOWN:
        return sets.counts if sets else []
    return sorted(sets.counts, key=lambda row: -(row.wrong + row.missed))[:MOST_SHOWN]


def _gaps(rows_by_label: dict[str, dict[str, int]]) -> list[str]:
    """Return a sentence for each of validation and test that has no rows of some classes."""
    return [
        f"no {split} rows of {listed(missing)}: nothing is known of how it does on them there"
        for split in ("validation", "test")
        if (missing := [label for label, rows in rows_by_label[split].items() if not rows])
    ]


def _matrix(confusion: list[list[int]]) -> list[list[dict[str, Any]]]:
    """Return cells with their count, its share of the row (0 to 1), and whether they are on the diagonal."""
    return [
        [{"count": count, "share": count / max(1, sum(row)), "right": i == j} for j, count in enumerate(row)]
        for i, row in enumerate(confusion)
    ]


def _pairs(evaluation: Evaluation) -> list[dict[str, Any]]:
    supports = {row.label: row.support for row in evaluation.score.classes}
    return [
        {
            "label": evaluation.labels[truth],
            "answer": evaluation.labels[answer],
            "rows": rows,
            "share": rows / supports[evaluation.labels[truth]],
        }
        for truth, answer, rows in evaluation.confused()[:MOST_SHOWN]
    ]


def _worst_slices(evaluation: Evaluation, found: bool) -> list[dict[str, Any]]:
    """Return the slices with the lowest accuracy first."""

    def accuracy(part: SliceScore) -> float:
        return part.right / part.rows

    some = sorted((part for part in evaluation.slices if part.found == found), key=accuracy)[:_MOST_SLICES]
    return [
        {**asdict(part), "accuracy": accuracy(part), "gain": (part.only_candidate - part.only_champion) / part.rows}
        for part in some
    ]


def _spread(rows: list[int]) -> list[int]:
    """Return the rows of the smallest class, of the median one and of the largest."""
    return [min(rows), median_low(rows), max(rows)]
