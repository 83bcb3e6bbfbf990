"""The gate: whether a candidate may replace the model in service, decided by tests and not by one number."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from components.evaluation.checks import Check
from components.evaluation.scores import Evaluation, listed
from components.evaluation.sets.gate import f1_champion, f1_checks
from components.evaluation.statistics import LEVEL, Paired, holm, p_below
from components.evaluation.thresholds import Thresholds

DECISION_FILE = "decision.json"
_MOST_FAILURES = 20
"""Of classes, slices and behaviour, that are told one by one."""


@dataclass(frozen=True)
class GateDecision:
    """Whether the candidate passed, and each check."""

    passed: bool
    checks: list[Check]

    @property
    def reasons(self) -> list[str]:
        """The checks in words, those that failed first."""
        return [check.sentence for check in sorted(self.checks, key=lambda check: check.passed)]

    def save(self, file: Path) -> None:
        """Write as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=2))

    @classmethod
    def load(cls, file: Path) -> "GateDecision":
        """Read what `save` wrote."""
        raw = json.loads(file.read_text())
        return cls(raw["passed"], [Check(**check) for check in raw["checks"]])


def gate(evaluation: Evaluation, thresholds: Thresholds) -> GateDecision:
    """Check a candidate's test results.

    It passes if every check does. Against baseline and champion, rows that only one of the two has right decide
    (McNemar's exact test, one-sided at 5%); of a multi-label model micro F1 is compared, by the paired bootstrap over
    rows. The floors of classes, slices and behavioural tests, and the comparisons with the champion on each class and
    slice, are one family of tests: Holm's correction keeps the chance that any of them refuses a candidate that is as
    good as it should be at 5%.
    """
    checks = [
        *_accuracy(evaluation, thresholds),
        *_champion(evaluation, thresholds),
        *_family(evaluation, thresholds),
        *_confidence(evaluation, thresholds),
        *_engine(evaluation, thresholds),
    ]
    return GateDecision(all(check.passed for check in checks), checks)


def _accuracy(evaluation: Evaluation, thresholds: Thresholds) -> Iterator[Check]:
    yield from f1_checks(evaluation, thresholds) if evaluation.score.sets else _of_labels(evaluation, thresholds)
    if bad := evaluation.score.not_numbers:
        yield Check(
            "numbers", False, f"{bad:,} of {evaluation.rows:,} rows get probabilities that are no numbers", bad, 0
        )
    leaked = evaluation.leaked
    yield Check(
        "leakage", not leaked,
        f"{leaked:,} test rows are also training rows: prepare the data again" if leaked
        else "no test row is also a training row",
        leaked, 0,
    )  # fmt: skip
    if evaluation.unknown:
        yield Check(
            "untested classes", True,
            f"without test rows, so that nothing is known of it: {listed(evaluation.unknown)}",
            len(evaluation.unknown),
        )  # fmt: skip


def _of_labels(evaluation: Evaluation, thresholds: Thresholds) -> Iterator[Check]:
    accuracy = evaluation.score.accuracy
    enough = accuracy >= thresholds.min_accuracy
    yield Check(
        "accuracy", enough,
        f"accuracy {accuracy:.2%} is {'at least' if enough else 'below'} {thresholds.min_accuracy:.2%}",
        accuracy, thresholds.min_accuracy,
    )  # fmt: skip
    p = Paired(evaluation.rows, evaluation.only_model_right, evaluation.only_baseline_right).p_worse()
    yield Check(
        "baseline", p >= LEVEL,
        f"the linear baseline ({evaluation.baseline_accuracy:.2%}) is {'not ' if p >= LEVEL else ''}significantly "
        f"better (McNemar p = {p:.3f})",
        accuracy - evaluation.baseline_accuracy, 0.0, p,
    )  # fmt: skip


def _champion(evaluation: Evaluation, thresholds: Thresholds) -> Iterator[Check]:
    champion = evaluation.champion
    if champion is None:
        yield Check("champion", True, "there is no champion yet to compare with")
        return
    name = f"the champion, version {champion.version}"
    if champion.score is None:
        yield Check(
            "champion", False,
            f"{name}, cannot be tested ({champion.missing}): bring its bundle back, or retire that version",
        )  # fmt: skip
        return
    if champion.same:
        yield Check("champion", True, f"{name}, has the same files, so that nothing would change")
        return
    if champion.gain is not None:
        yield f1_champion(champion, champion.gain, thresholds, name)
        return
    pair = Paired(evaluation.rows, champion.only_candidate, champion.only_champion)
    gain = (champion.only_candidate - champion.only_champion) / evaluation.rows
    low, high = pair.interval()
    # With few rows the interval is approximate, and the test is exact.
    worse = pair.p_worse() < LEVEL and high < -thresholds.champion_margin
    seen = (
        "is shown to be better" if worse else "is shown to be worse" if pair.p_better() < LEVEL
        else "is not shown to be better or worse"
    )  # fmt: skip
    lacks = f"; it lacks {listed(champion.unknown)}" if champion.unknown else ""
    yield Check(
        "champion", not worse,
        f"{name} ({champion.score.accuracy:.2%}), {seen}: the gain is {100 * gain:+.2f} points ({100 * low:+.2f} to "
        f"{100 * high:+.2f}), and these rows show differences from {100 * pair.smallest_difference():.2f} points on"
        f"{lacks}",
        gain, 0.0 - thresholds.champion_margin, pair.p_worse(),
    )  # fmt: skip


def _family(evaluation: Evaluation, thresholds: Thresholds) -> Iterator[Check]:
    """Yield a check for each group of tests that are corrected together."""
    tests = list(_tests(evaluation, thresholds))
    adjusted = holm([test.p_value for test in tests if test.p_value is not None])
    failed = [
        replace(test, p_value=p, sentence=f"{test.sentence} (p = {p:.3f})")
        for test, p in zip(tests, adjusted, strict=True)
        if p < LEVEL
    ]
    yield from (replace(test, passed=False) for test in failed[:_MOST_FAILURES])
    if len(failed) > _MOST_FAILURES:
        yield Check("more", False, f"and {len(failed) - _MOST_FAILURES:,} more tests of classes and slices fail")
    if not failed:
        yield Check(
            "classes and slices", True,
            f"none of {len(tests):,} tests of classes, slices and behaviour fails (Holm's correction)",
            p_value=min(adjusted, default=1.0),
        )  # fmt: skip


def _tests(evaluation: Evaluation, thresholds: Thresholds) -> Iterator[Check]:
    """Yield the tests of one family; slices that were looked for among the mistakes are not fair and left out."""
    for row in evaluation.score.classes:
        if row.support:
            found = round(row.recall * row.support)
            yield Check(
                "class", True,
                f"of class {row.label} {found:,} of {row.support:,} rows are found, under "
                f"{thresholds.min_class_recall:.0%}",
                row.recall, thresholds.min_class_recall, p_below(found, row.support, thresholds.min_class_recall),
            )  # fmt: skip
    usual = evaluation.score.accuracy if evaluation.score.sets else thresholds.min_accuracy
    floor = max(0.0, usual - thresholds.slice_margin)
    compared = evaluation.champion is not None and evaluation.champion.score is not None
    for part in (part for part in evaluation.slices if not part.found):
        yield Check(
            "slice", True,
            f"on the slice {part.name} {part.right:,} of {part.rows:,} rows are right, under {floor:.0%}",
            part.right / part.rows, floor, p_below(part.right, part.rows, floor),
        )  # fmt: skip
        if compared:
            yield Check(
                "slice against champion", True,
                f"on the slice {part.name} the champion alone is right on {part.only_champion:,} rows, the candidate "
                f"alone on {part.only_candidate:,}",
                (part.only_candidate - part.only_champion) / part.rows, 0.0,
                Paired(part.rows, part.only_candidate, part.only_champion).p_worse(),
            )  # fmt: skip
    for behaviour in evaluation.behaviour:
        floor = max(0.0, behaviour.floor - thresholds.behaviour_margin)
        yield Check(
            "behaviour", True,
            f"the {behaviour.kind} test '{behaviour.name}' holds for {behaviour.held:,} of {behaviour.rows:,} texts, "
            f"under {floor:.0%}",
            behaviour.held / behaviour.rows, floor, p_below(behaviour.held, behaviour.rows, floor),
        )  # fmt: skip


def _confidence(evaluation: Evaluation, thresholds: Thresholds) -> Iterator[Check]:
    error, chance = evaluation.score.calibration_error, evaluation.score.error_by_chance
    good = error <= thresholds.max_calibration_error + chance
    yield Check(
        "calibration", good,
        f"expected calibration error {error:.3f} is {'at most' if good else 'over'} "
        f"{thresholds.max_calibration_error:.3f} (chance alone makes up to {chance:.3f} of it)",
        error, thresholds.max_calibration_error,
    )  # fmt: skip


def _engine(evaluation: Evaluation, thresholds: Thresholds) -> Iterator[Check]:
    if rows := evaluation.agreement_rows:
        p = p_below(round(evaluation.agreement * rows), rows, thresholds.min_agreement)
        yield Check(
            "agreement", p >= LEVEL,
            f"{evaluation.precision} and fp32 agree on {evaluation.agreement:.2%} of {rows:,} rows, "
            f"{'not shown to be ' if p >= LEVEL else ''}under {thresholds.min_agreement:.2%}",
            evaluation.agreement, thresholds.min_agreement, p,
        )  # fmt: skip
    if cascade := evaluation.cascade:
        low, _ = Paired(evaluation.rows, cascade.lost, cascade.won).interval()
        good = low <= thresholds.max_cascade_loss
        yield Check(
            "cascade", good,
            f"the cascade's linear model answers {cascade.share:.1%}; the transformer alone has "
            f"{cascade.transformer_accuracy:.2%} (the cascade loses {cascade.lost} rows and wins {cascade.won}, "
            f"{'not ' if good else ''}shown to lose over {100 * thresholds.max_cascade_loss:.2g} points)",
            (cascade.lost - cascade.won) / evaluation.rows, thresholds.max_cascade_loss,
        )  # fmt: skip
    fast = evaluation.latency_ms <= thresholds.max_latency_ms
    yield Check(
        "latency", fast,
        f"a single text takes {evaluation.latency_ms:.0f} ms here (99th percentile), "
        f"{'at most' if fast else 'over'} {thresholds.max_latency_ms:.0f} ms",
        evaluation.latency_ms, thresholds.max_latency_ms,
    )  # fmt: skip
    size = evaluation.size_bytes / 1e6
    small = size <= thresholds.max_size_mb
    yield Check(
        "size", small,
        f"the bundle has {size:.0f} MB, {'at most' if small else 'over'} {thresholds.max_size_mb:.0f} MB",
        size, thresholds.max_size_mb,
    )  # fmt: skip
