"""The results of a bundle's test."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.training.export.reliability import Bin

EVALUATION_FILE = "evaluation.json"
MOST_SHOWN = 50
"""The most classes that are shown one by one: to people, and to Kubeflow, which keeps the matrix in its database."""
_EXTREMES = 20
_OTHERS = "(all others)"
_OF_SETS = ("sets", "gain", "baseline_micro_f1", "baseline_gain")
"""Fields of multi-label evaluations."""


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class, as shares of 1. They mean nothing for a class without test rows, whose `support` is 0."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    calibration_error: float = 0.0
    """Of the answers that name this class; 0 if there are none."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer with a high confidence."""

    text: str
    label: str
    answer: str
    confidence: float


@dataclass(frozen=True)
class CascadeScore:
    """What the linear model of a cascade does on the test rows; shares are of 1."""

    share: float
    """Of the rows, those that it answers."""
    transformer_accuracy: float
    """Of the transformer alone, on all rows."""
    lost: int
    """Rows that the transformer alone has right and the cascade has not."""
    won: int
    """Rows that the cascade has right and the transformer alone has not."""


@dataclass(frozen=True)
class LabelCounts:
    """Test rows of a multi-label model by what it says of one label."""

    label: str
    found: int
    """Rows with the label that get it."""
    wrong: int
    """Rows without it that get it."""
    missed: int
    """Rows with it that do not get it."""
    left: int
    """Rows without it that do not get it."""


@dataclass(frozen=True)
class SetScore:
    """The figures that only a multi-label model has, over all pairs of a row and a label; shares of 1."""

    micro_precision: float
    micro_recall: float
    micro_f1: float
    micro_f1_low: float
    """Lower end of the 95% bootstrap interval over rows."""
    micro_f1_high: float
    hamming_loss: float
    """Share of the pairs that are wrong."""
    counts: list[LabelCounts]


@dataclass(frozen=True)
class F1Gain:
    """How much more micro F1 the candidate has than another model on the same rows, by the paired bootstrap."""

    gain: float
    low: float
    """Each end is one-sided at 95%."""
    high: float
    p_worse: float
    """P-value of the candidate being worse, one-sided."""
    p_better: float


@dataclass(frozen=True)
class ModelScore:
    """The figures of one model; shares are of 1."""

    accuracy: float
    accuracy_low: float
    """Lower end of the 95% Wilson interval of the accuracy."""
    accuracy_high: float
    macro_precision: float
    """Like the other means over classes: over those that have test rows."""
    macro_recall: float
    macro_f1: float
    log_loss: float
    """Mean of minus the natural logarithm of the true class' probability, which counts as 1e-7 at least."""
    calibration_error: float
    """Expected calibration error."""
    error_by_chance: float
    """The calibration error that confidences as these exceed once in twenty if every one of them is true."""
    bins: list[Bin]
    selective: list[tuple[float, float]]
    """(share of rows, accuracy): of the rows with the highest confidence."""
    classes: list[ClassScore]
    not_numbers: int
    """Rows whose probabilities are not finite; they count as wrong."""
    sets: SetScore | None = None
    """Of a multi-label model; None where a text has one label. The accuracy is then that of rows with all labels right,
    and calibration that of all decisions about a label."""


@dataclass(frozen=True)
class Champion:
    """The model in service, on the same rows."""

    version: str
    """In the registry."""
    digest: str
    missing: str = ""
    """Why it could not be tested; then there are no scores."""
    score: ModelScore | None = None
    only_candidate: int = 0
    """Rows that the candidate has right and the champion has not."""
    only_champion: int = 0
    unknown: list[str] = field(default_factory=list)
    """Classes of the test that the champion lacks."""
    same: bool = False
    """Whether its files are the candidate's."""
    gain: F1Gain | None = None
    """Of a multi-label candidate over it."""


@dataclass(frozen=True)
class SliceScore:
    """The rows that have something in common."""

    name: str
    rows: int
    right: int
    only_candidate: int = 0
    """Rows that the candidate has right and the champion has not."""
    only_champion: int = 0
    found: bool = False
    """Whether it was looked for among the mistakes: its figures are then worse than new rows' would be."""


@dataclass(frozen=True)
class BehaviourScore:
    """How often a behavioural test holds."""

    name: str
    kind: str
    rows: int
    held: int
    floor: float
    """The least share that is expected."""
    failures: list[str]
    """Some of the texts with which it does not hold."""


@dataclass(frozen=True)
class Evaluation:
    """The results of a candidate's test; accuracies and scores are shares of 1."""

    task: str
    rows: int
    labels: list[str]
    score: ModelScore
    baseline_accuracy: float
    only_model_right: int
    """Rows that the model answers correctly and the baseline does not."""
    only_baseline_right: int
    confusion: list[tuple[int, int, int]]
    """(true class, answer, rows) for each pair that occurs; the classes are positions in `labels`."""
    mistakes: list[Mistake]
    precision: str
    precision_reason: str
    agreement: float
    """Share of rows beside the test on which the served precision and fp32 give the same label."""
    agreement_rows: int
    texts_per_second: float
    latency_ms: float
    """Of a single text, one after the other: the 99th percentile."""
    size_bytes: int
    """Of all files of the bundle."""
    leaked: int
    """Test rows whose cleaned text is also a training row."""
    cascade: CascadeScore | None = None
    champion: Champion | None = None
    slices: list[SliceScore] = field(default_factory=list)
    behaviour: list[BehaviourScore] = field(default_factory=list)
    baseline_micro_f1: float | None = None
    """Of multi-label data, which has a baseline with a machine for each label."""
    baseline_gain: F1Gain | None = None

    @property
    def unknown(self) -> list[str]:
        """Classes without test rows."""
        return [row.label for row in self.score.classes if not row.support]

    def matrix(self) -> tuple[list[str], list[list[int]]]:
        """Return labels and the confusion matrix: a row for each true class, a column for each answer.

        With more than `MOST_SHOWN` classes it has those that are confused most often, and one more for all others.
        """
        shown: Sequence[int] = range(len(self.labels))
        if len(self.labels) > MOST_SHOWN:
            both = (number for *pair, _ in self.confused() for number in pair)
            shown = list(dict.fromkeys([*both, *shown]))[: MOST_SHOWN - 1]
        place = {number: column for column, number in enumerate(sorted(shown))}
        labels = [self.labels[number] for number in place]
        if len(place) < len(self.labels):
            labels.append(_OTHERS)
        matrix = [[0] * len(labels) for _ in labels]
        for truth, answer, rows in self.confusion:
            matrix[place.get(truth, -1)][place.get(answer, -1)] += rows
        return labels, matrix

    def confused(self) -> list[tuple[int, int, int]]:
        """Return (true class, answer, rows) of the wrong answers, the most frequent first."""
        return sorted((pair for pair in self.confusion if pair[0] != pair[1]), key=lambda pair: -pair[2])

    def save(self, file: Path) -> None:
        """Write as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        # What only multi-label models have is left out of the files of others.
        raw = asdict(self, dict_factory=lambda pairs: {k: v for k, v in pairs if v is not None or k not in _OF_SETS})
        file.write_text(json.dumps(raw, ensure_ascii=False, indent=None if len(self.labels) > MOST_SHOWN else 2))

    @classmethod
    def load(cls, file: Path) -> "Evaluation":
        """Read what `save` wrote."""
        raw = json.loads(file.read_text())
        raw["score"] = _model_score(raw["score"])
        raw["confusion"] = [tuple(pair) for pair in raw["confusion"]]
        raw["mistakes"] = [Mistake(**row) for row in raw["mistakes"]]
        raw["cascade"] = CascadeScore(**raw["cascade"]) if raw["cascade"] else None
        if raw["champion"]:
            score, gain = raw["champion"].pop("score"), raw["champion"].pop("gain", None)
            raw["champion"] = Champion(
                **raw["champion"], score=_model_score(score) if score else None, gain=F1Gain(**gain) if gain else None
            )
        if gain := raw.get("baseline_gain"):
            raw["baseline_gain"] = F1Gain(**gain)
        raw["slices"] = [SliceScore(**row) for row in raw["slices"]]
        raw["behaviour"] = [BehaviourScore(**row) for row in raw["behaviour"]]
        return cls(**raw)


def _model_score(raw: dict[str, Any]) -> ModelScore:
    raw["bins"] = [Bin(**row) for row in raw["bins"]]
    raw["selective"] = [tuple(pair) for pair in raw["selective"]]
    raw["classes"] = [ClassScore(**row) for row in raw["classes"]]
    if sets := raw.get("sets"):
        raw["sets"] = SetScore(**{**sets, "counts": [LabelCounts(**row) for row in sets["counts"]]})
    return ModelScore(**raw)


def worst_and_best(classes: Sequence[ClassScore]) -> tuple[list[ClassScore], list[ClassScore]]:
    """Return the classes with the lowest F1 and those with the highest, among those that have test rows."""
    ranked = sorted((row for row in classes if row.support), key=lambda row: row.f1)
    return ranked[:_EXTREMES], ranked[::-1][:_EXTREMES]


def listed(labels: Sequence[str], most: int = 10) -> str:
    """Return labels for a sentence: the first ones, and how many more there are."""
    more = f" and {len(labels) - most:,} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more
