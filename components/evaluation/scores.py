"""What is known of a bundle after its test."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class; precision, recall and F1 as shares of 1."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that was given with confidence."""

    text: str
    label: str
    answer: str
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """What is known of a bundle after the test; shares of 1 unless said otherwise."""

    task: str
    rows: int
    accuracy: float
    accuracy_low: float
    """Lower end of the 95% Wilson interval of the accuracy."""
    accuracy_high: float
    macro_f1: float
    calibration_error: float
    baseline_accuracy: float
    only_model_right: int
    """Rows that the model has right and the baseline wrong."""
    only_baseline_right: int
    precision: str
    precision_reason: str
    texts_per_second: float
    labels: list[str]
    classes: list[ClassScore]
    confusion: list[list[int]]
    """Rows: true class; columns: answer."""
    mistakes: list[Mistake]

    def save(self, file: Path) -> None:
        """Write as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=2))

    @classmethod
    def load(cls, file: Path) -> "Evaluation":
        """Read what `save` wrote."""
        raw = json.loads(file.read_text())
        raw["classes"] = [ClassScore(**row) for row in raw["classes"]]
        raw["mistakes"] = [Mistake(**row) for row in raw["mistakes"]]
        return cls(**raw)
