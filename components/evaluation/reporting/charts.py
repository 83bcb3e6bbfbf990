"""Charts of the report, as SVG that takes its colours from the page, and that a screen reader is told of in words."""

import io
import itertools
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.evaluation.scores import ClassScore, ModelScore

# Stand-ins that are unlike any other colour, and what the page calls them.
_INK, _FAINT = "#010203", "#010204"
CANDIDATE, OTHER = "#010205", "#010206"
_COLOURS = {_INK: "currentColor", _FAINT: "var(--soft)", CANDIDATE: "var(--bar)", OTHER: "var(--other)"}
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "pigeonhole", "font.size": 10, "text.color": _INK,
    "axes.edgecolor": _FAINT, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "text.parse_math": False,  # a label may hold dollars
}  # fmt: skip
_TALLEST_BARS = 50
_TENTHS = 10


def reliability_chart(candidate: ModelScore, champion: ModelScore | None) -> Markup:
    """Draw accuracy against confidence; on the diagonal every confidence is true."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_FAINT, linestyle="--", linewidth=1)
        for score, colour, name in _models(candidate, champion):
            x, y = [each.confidence for each in score.bins], [each.accuracy for each in score.bins]
            low = [each.accuracy - each.low for each in score.bins]
            high = [each.high - each.accuracy for each in score.bins]
            axes.errorbar(x, y, yerr=[low, high], color=colour, marker="o", markersize=4, linewidth=1.5, label=name)
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        _legend(axes)

    said = "; ".join(f"{each.confidence:.0%} confident: {each.accuracy:.0%} right" for each in candidate.bins)
    return _svg(draw, "Reliability", f"Accuracy by confidence of the candidate. {said}.")


def selective_chart(candidate: ModelScore, champion: ModelScore | None) -> Markup:
    """Draw the accuracy of the rows with the highest confidence against their share."""

    def draw(axes: Axes) -> None:
        for score, colour, name in _models(candidate, champion):
            axes.plot(*zip(*score.selective, strict=True), color=colour, marker="o", markersize=4, label=name)
        axes.set(xlabel="share of rows, the most confident first", ylabel="accuracy", xlim=(0, 1.02))
        _legend(axes)

    said = "; ".join(f"{share:.0%} of rows: {accuracy:.1%}" for share, accuracy in candidate.selective)
    return _svg(draw, "Accuracy if the least confident answers are left out", f"{said}.")


def class_chart(candidate: Sequence[ClassScore], champion: Sequence[ClassScore] | None) -> Markup:
    """Draw F1 by class; with many classes, how many classes have which F1."""
    shown = [row for row in candidate if row.support]
    if len(shown) > _TALLEST_BARS:
        counts = [0] * _TENTHS
        for row in shown:
            counts[min(_TENTHS - 1, int(row.f1 * _TENTHS))] += 1

        def histogram(axes: Axes) -> None:
            axes.bar([(place + 0.5) / _TENTHS for place in range(_TENTHS)], counts, width=0.09, color=CANDIDATE)
            axes.set(xlabel="F1", ylabel="classes", xlim=(0, 1))

        said = "; ".join(f"{place / _TENTHS:.1f} or more: {count}" for place, count in enumerate(counts))
        return _svg(histogram, "Classes by F1", f"Number of classes by F1, {said}.")
    before = {row.label: row.f1 for row in champion or () if row.support}

    def bars(axes: Axes) -> None:
        places = range(len(shown))
        axes.barh(
            [place - 0.2 for place in places], [row.f1 for row in shown], 0.38, color=CANDIDATE, label="candidate"
        )
        if before:
            others = [before.get(row.label, 0.0) for row in shown]
            axes.barh([place + 0.2 for place in places], others, 0.38, color=OTHER, label="champion")
            _legend(axes)
        axes.set_yticks(list(places), [_short(row.label) for row in shown])
        axes.set(xlabel="F1", xlim=(0, 1))
        axes.invert_yaxis()

    said = "; ".join(
        f"{row.label}: {row.f1:.3f}" + (f", champion {before[row.label]:.3f}" if row.label in before else "")
        for row in shown
    )
    return _svg(bars, "F1 by class", f"{said}.", height=0.9 + 0.42 * len(shown))


def curve_chart(title: str, history: Sequence[dict[str, Any]], series: dict[str, str]) -> Markup:
    """Draw values by epoch.

    Args:
        title: what they are.
        history: an entry for each epoch.
        series: key in the entries for each name in the legend.
    """

    def draw(axes: Axes) -> None:
        epochs = [row["epoch"] for row in history]
        for (name, key), colour in zip(series.items(), itertools.cycle((CANDIDATE, OTHER))):
            axes.plot(epochs, [row[key] for row in history], color=colour, marker="o", markersize=4, label=name)
        axes.set(xlabel="epoch")
        axes.set_xticks(epochs if len(epochs) <= _TENTHS else epochs[:: len(epochs) // _TENTHS + 1])
        if len(series) > 1:
            _legend(axes)

    last = history[-1]
    said = ", ".join(f"{name} {last[key]:.3f}" for name, key in series.items())
    return _svg(draw, title, f"By epoch, up to {last['epoch']}: at the end {said}.")


def _models(candidate: ModelScore, champion: ModelScore | None) -> list[tuple[ModelScore, str, str]]:
    others = [(champion, OTHER, "champion")] if champion else []
    return [*others, (candidate, CANDIDATE, "candidate")]


def _legend(axes: Axes) -> None:
    """Name the series above the plot, where nothing is hidden."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0)


def _short(label: str) -> str:
    return label if len(label) <= 24 else f"{label[:23]}…"


def _svg(draw: Callable[[Axes], None], title: str, description: str, height: float = 3.4) -> Markup:
    name = re.sub(r"\W+", "-", title.lower())
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the browser has glyphs that the font here lacks
        figure = Figure(figsize=(5.2, height), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Several charts are on one page, where an id may stand once.
    svg = re.sub(r' id="([^"]*)"', rf' id="{name}-\1"', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    head, rest = svg.split(">", 1)
    words = f"<title>{escape(title)}</title>"
    return Markup(f'{head} role="img" aria-label="{escape(title)}. {escape(description)}">{words}{rest}')
