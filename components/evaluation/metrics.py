"""What is measured on the test split, and what it is called.

A line in `METRICS` puts a metric into MLflow, Kubeflow, `serving.json`, the model card and the report.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from components.evaluation.scores import Evaluation


@dataclass(frozen=True)
class Metric:
    """One figure of an evaluation."""

    name: str
    """In Kubeflow."""
    title: str
    """In the model card and the report."""
    value: Callable[[Evaluation], float]
    percent: bool = False
    """Whether people read it as a percentage."""
    hub_type: str = ""
    """The metric's id on the Hugging Face hub, for the model card's front matter; empty where there is none."""
    of_classes: bool = False
    """Whether it is a mean over the classes that have test rows."""

    @property
    def key(self) -> str:
        """The name in MLflow and in `serving.json`, where metrics of other splits stand beside it."""
        return f"test_{self.name}"

    def shown(self, value: float) -> str:
        """Return the value for people."""
        return f"{value:.2%}" if self.percent else f"{value:.4f}"


METRICS = (
    Metric("accuracy", "accuracy", attrgetter("score.accuracy"), percent=True, hub_type="accuracy"),
    Metric("macro_f1", "macro F1", attrgetter("score.macro_f1"), hub_type="f1", of_classes=True),
    Metric(
        "macro_precision", "macro precision", attrgetter("score.macro_precision"), hub_type="precision", of_classes=True
    ),
    Metric("macro_recall", "macro recall", attrgetter("score.macro_recall"), hub_type="recall", of_classes=True),
    Metric("log_loss", "log loss", attrgetter("score.log_loss")),
    Metric("calibration_error", "expected calibration error", attrgetter("score.calibration_error")),
)


OF_CASCADES = (
    Metric(
        "transformer_accuracy", "accuracy of the transformer alone", attrgetter("cascade.transformer_accuracy"), True
    ),
    Metric("cascade_share", "share of texts that the linear model answers", attrgetter("cascade.share"), True),
)
"""What a bundle with a cascade has, too."""


OF_SETS = (
    Metric("micro_f1", "micro F1", attrgetter("score.sets.micro_f1"), hub_type="f1"),
    Metric("micro_precision", "micro precision", attrgetter("score.sets.micro_precision"), hub_type="precision"),
    Metric("micro_recall", "micro recall", attrgetter("score.sets.micro_recall"), hub_type="recall"),
    *(metric for metric in METRICS if metric.of_classes),
    Metric("accuracy", "texts with all labels right", attrgetter("score.accuracy"), percent=True, hub_type="accuracy"),
    Metric("hamming_loss", "Hamming loss", attrgetter("score.sets.hamming_loss")),
    *METRICS[-2:],
)
"""What a multi-label bundle has in place of `METRICS`."""


def usual_metrics(multi_label: bool) -> tuple[Metric, ...]:
    """Return the metrics that each bundle of a kind has."""
    return OF_SETS if multi_label else METRICS


def metrics_of(evaluation: Evaluation) -> tuple[Metric, ...]:
    """Return the metrics that an evaluation has."""
    return usual_metrics(evaluation.score.sets is not None) + (OF_CASCADES if evaluation.cascade else ())


def by_name(evaluation: Evaluation) -> dict[str, float]:
    """Return the metrics under their names in Kubeflow."""
    return {metric.name: metric.value(evaluation) for metric in metrics_of(evaluation)}


def by_key(evaluation: Evaluation) -> dict[str, float]:
    """Return the metrics under their names in MLflow and in `serving.json`."""
    return {metric.key: metric.value(evaluation) for metric in metrics_of(evaluation)}
