"""The model card that goes into the bundle as README.md."""

from collections.abc import Sequence
from typing import Any

import yaml

from components.evaluation import metrics
from components.evaluation.metrics import Metric
from components.evaluation.scores import MOST_SHOWN, ClassScore, listed, worst_and_best
from predictor.model.bundle import MULTI, ServingSpec


def model_card(spec: ServingSpec, classes: Sequence[ClassScore], rows: dict[str, int]) -> str:
    """Return a Hugging Face model card: YAML front matter with results, then use, limits and figures in Markdown.

    Args:
        spec: the bundle's, with its test metrics.
        classes: test scores by class.
        rows: rows of each split.
    """
    several = spec.problem_type == MULTI
    usual = metrics.usual_metrics(several)
    on_hub = [metric for metric in usual if metric.hub_type]
    results = [
        {
            "task": {"type": "text-classification", "name": spec.task},
            "dataset": {"name": f"sha256:{spec.data_digest[:12]}", "type": "private"},
            "metrics": [_on_hub(metric, spec.metrics[metric.key]) for metric in on_hub],
        }
    ]
    front = {
        "pipeline_tag": "text-classification",
        "library_name": "transformers",
        "tags": ["pigeonhole", "onnx"],
        "metrics": list(dict.fromkeys(metric.hub_type for metric in on_hub)),
        "model-index": [{"name": spec.task, "results": results}],
    }
    shown, labels, of_which = classes, ", ".join(spec.labels[:MOST_SHOWN]), ""
    if len(classes) > MOST_SHOWN:
        worst, best = worst_and_best(classes)
        shown = [*worst, *(row for row in best if row not in worst)]
        labels += f" and {len(spec.labels) - MOST_SHOWN:,} more, which `serving.json` names"
        of_which = "The classes with the lowest F1 and, behind them, those with the highest:\n\n"
    table = "\n".join(
        f"| {row.label} | {row.precision:.3f} | {row.recall:.3f} | {row.f1:.3f} | {row.support:,} |"
        if row.support
        else f"| {row.label} | | | | 0 |"
        for row in shown
    )
    untested = [row.label for row in classes if not row.support]
    gap = (
        f"\nThe test has no rows of {listed(untested)}: nothing is known of how it does on them.\n" if untested else ""
    )
    split_rows = ", ".join(f"{count:,} {name}" for name, count in rows.items())
    versions = ", ".join(f"{name} {number}" for name, number in spec.versions.items())
    first, *others = (f"{metric.title} {metric.shown(spec.metrics[metric.key])}" for metric in on_hub)
    headline = ", ".join([f"**{first}**", *others])
    more = "".join(
        f"; {metric.title} on the test\nrows {metric.shown(spec.metrics[metric.key])}"
        for metric in usual
        if not metric.hub_type
    )
    count = len(spec.labels)
    what_for = f"Gives a text any number of {count} labels" if several else f"Puts a text into one of {count} classes"
    stranger = f"a text that belongs to none of them {'gets none' if several else 'still gets one'}"
    return f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip()}
---

# {spec.task}

{what_for}: {labels}.

## Results

Measured on the {int(spec.metrics["test_rows"]):,} test rows with the {spec.precision} model that is served:
{headline}. A linear baseline (TF-IDF and a linear SVM) on the same training rows
has {spec.baseline_accuracy:.2%}.

{of_which}| class | precision | recall | F1 | rows |
|---|---|---|---|---|
{table}
{gap}
Precision served: {spec.precision_reason}. Temperature {spec.temperature:g}{more}.
{_cascade(spec)}
## Use

`pigeonhole serve FOLDER` serves it over the KServe protocols. Plain `transformers` reads it too:

```python
from transformers import pipeline

pipeline("text-classification", model="FOLDER")("a text", truncation=True{", top_k=None" if several else ""})
```
{_thresholds(spec)}
Texts are cut at {spec.max_length} tokens. Answers below a confidence of {spec.confidence_threshold:g} deserve a human
eye.

## Limits

It knows only the classes above and the kind of text it was trained on ({split_rows} rows, data digest
`sha256:{spec.data_digest}`); {stranger}. The figures hold for texts like the
test rows. Look at the classes' recall before you let it decide anything about people.

Made with {versions}.
"""


def _thresholds(spec: ServingSpec) -> str:
    """Return a sentence on the thresholds, which plain `transformers` does not know; empty where there are none."""
    if not spec.thresholds:
        return ""
    levels = list(spec.thresholds.items())
    more = f" and {len(levels) - MOST_SHOWN:,} more" if len(levels) > MOST_SHOWN else ""
    said = ", ".join(f"{label} {threshold:.3f}" for label, threshold in levels[:MOST_SHOWN])
    return f"""
A text has a label from this calibrated probability on, which `serving.json` has, too: {said}{more}. Plain
`transformers` knows neither these thresholds nor the temperature.
"""


def _cascade(spec: ServingSpec) -> str:
    """Return a paragraph on the cascade, which plain `transformers` does not know; empty where there is none."""
    if spec.cascade is None:
        return ""
    figures = ", ".join(f"{metric.title} {metric.shown(spec.metrics[metric.key])}" for metric in metrics.OF_CASCADES)
    return f"""
A cascade serves it: a linear model answers the texts that it is sure of, the transformer the others. On the test rows:
{figures}. `pigeonhole serve --cascade off` leaves all texts to the transformer, as plain `transformers` does.
"""


def _on_hub(metric: Metric, value: float) -> dict[str, Any]:
    """Return a result as the hub's `model-index` has it."""
    name = {} if metric.title == metric.hub_type else {"name": metric.title}
    return {"type": metric.hub_type, **name, "value": round(value, 4)}
