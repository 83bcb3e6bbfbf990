"""Measuring a bundle on the test split, through the same classifier that serves it, beside baseline and champion."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.data.behaviour.lines import USUAL_FILE, read_behaviour
from components.data.dataset import Dataset
from components.evaluation.behaviour import run_behaviour
from components.evaluation.champion import ChampionBundle
from components.evaluation.metrics import by_key
from components.evaluation.predictions import predict
from components.evaluation.reporting.card import model_card
from components.evaluation.scores import CascadeScore, Champion, Evaluation, SliceScore
from components.evaluation.slices import slices, weak_slices
from components.evaluation.tested import Answers, Asked, LabelTest, SetTest, gain_over
from components.platform.progress import say
from components.training.baseline import Baseline
from predictor.model.bundle import SPEC_FILE, Bundle, seal
from predictor.model.classifier import Classifier
from predictor.model.text import Cleaning, clean

CARD_FILE = "README.md"
_SINGLE_TEXTS = 100
_SEED = 42
_PORTION = 4096
"""Texts whose linear scores are in memory at once."""


class Tested(NamedTuple):
    """Figures, and the answers that they were counted from."""

    evaluation: Evaluation
    answers: pd.DataFrame
    """A row for each test row: id, label, and answer, confidence and truth_probability of candidate and champion, and
    the baseline's answer; None where a model has no answer that is a class of the data."""


def evaluate(
    bundle: Path,
    dataset: Dataset,
    baseline: Baseline,
    baseline_answers: dict[str, str],
    champion: ChampionBundle | None = None,
    behaviour: Path | None = None,
) -> Tested:
    """Answer every test row with the bundle, the champion and the baseline, and compare.

    Args:
        bundle: the candidate.
        dataset: its test split is asked.
        baseline: the linear baseline's result.
        baseline_answers: its label for each row id.
        champion: the model in service; None if there is none.
        behaviour: a file of behavioural tests, besides those that suit any task.

    Raises:
        InputError: a behavioural test is none.
    """
    lines = read_behaviour(USUAL_FILE) + (read_behaviour(behaviour) if behaviour else [])
    classifier = Classifier(bundle)
    labels, texts = list(classifier.labels), dataset.test.texts
    asked: Asked = SetTest(dataset, labels) if dataset.multi_label else LabelTest(dataset, labels)
    started = time.monotonic()
    given = asked.of(classifier, "evaluate")
    seconds = time.monotonic() - started
    other = np.array([baseline_answers[id_] for id_ in dataset.test.frame["id"]], dtype=object)
    other_right = other == np.array(dataset.test.labels, dtype=object)
    parts = asked.parts(other)
    opponent, theirs = _champion(champion, classifier.bundle, asked, given)
    right = given.right
    spec = classifier.bundle.spec
    result = Evaluation(
        task=spec.task,
        rows=len(texts),
        labels=labels,
        score=given.score,
        baseline_accuracy=baseline.test_accuracy,
        only_model_right=int((right & ~other_right).sum()),
        only_baseline_right=int((~right & other_right).sum()),
        confusion=given.confusion,
        mistakes=given.mistakes,
        precision=spec.precision,
        precision_reason=spec.precision_reason,
        agreement=spec.metrics.get("agreement_fp32_int8", 1.0) if spec.precision == "int8" else 1.0,
        agreement_rows=int(spec.metrics.get("compared_rows", 0)) if spec.precision == "int8" else 0,
        texts_per_second=len(texts) / seconds,
        latency_ms=_latency(classifier, texts),
        size_bytes=sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file()),
        leaked=_leaked(dataset),
        cascade=_cascade_score(classifier, dataset, right),
        champion=opponent,
        slices=_slice_scores(dataset.test.frame, right, theirs.right if theirs else None),
        behaviour=run_behaviour(lines, classifier, texts, _SEED),
        baseline_micro_f1=parts.f1() if parts else None,
        baseline_gain=gain_over(parts, given.parts),
    )
    classifier.close()
    score = result.score
    if score.sets:
        say(f"test micro F1 {score.sets.micro_f1:.3f}, baseline {result.baseline_micro_f1:.3f}")
    say(
        f"test accuracy {score.accuracy:.2%} (95% interval {score.accuracy_low:.1%} to {score.accuracy_high:.1%}), "
        f"baseline {result.baseline_accuracy:.2%}"
    )
    return Tested(result, _table(dataset.test.frame, given, theirs, other))


def _champion(
    champion: ChampionBundle | None, candidate: Bundle, asked: Asked, given: Answers
) -> tuple[Champion | None, Answers | None]:
    if champion is None:
        return None, None
    found = Champion(champion.version, champion.digest, champion.missing)
    if champion.path is None:
        say(f"the champion, version {champion.version}, is not tested: {champion.missing}")
        return found, None
    classifier = Classifier(champion.path)
    theirs = asked.of(classifier, f"evaluate champion {champion.version}")
    unknown = sorted(set(asked.tested) - set(classifier.labels))
    same = _model_files(classifier.bundle) == _model_files(candidate)
    classifier.close()
    say(f"champion {champion.version}: test accuracy {theirs.right.mean():.2%}")
    return replace(
        found,
        score=theirs.score,
        only_candidate=int((given.right & ~theirs.right).sum()),
        only_champion=int((~given.right & theirs.right).sum()),
        unknown=unknown,
        same=same,
        gain=gain_over(theirs.parts, given.parts),
    ), theirs


def _model_files(bundle: Bundle) -> dict[str, str]:
    """Return the digests of what computes the answers: the model card tells of the test, too."""
    return {name: digest for name, digest in bundle.spec.files.items() if name != CARD_FILE}


def _cascade_score(classifier: Classifier, dataset: Dataset, right: NDArray[np.bool_]) -> CascadeScore | None:
    """Ask the transformer for the texts that the linear model of a cascade answered."""
    if classifier.cascade is None:
        return None
    texts, truth = dataset.test.texts, np.array(dataset.test.label_ids(classifier.labels))
    cleaned = classifier.encoder.clean(texts)
    exits = np.concatenate(
        [classifier.cascade(cleaned[start : start + _PORTION])[1] for start in range(0, len(cleaned), _PORTION)]
    )
    alone = right.copy()
    if exits.any():
        transformer = Classifier(classifier.bundle.path, cascade=False)
        gone = [text for text, left in zip(texts, exits, strict=True) if left]
        given = predict(transformer, gone, truth[exits], classifier.labels, "evaluate the transformer alone")
        transformer.close()
        alone[exits] = given.answers == truth[exits]
    return CascadeScore(
        share=float(exits.mean()),
        transformer_accuracy=float(alone.mean()),
        lost=int((alone & ~right).sum()),
        won=int((right & ~alone).sum()),
    )


def _slice_scores(test: pd.DataFrame, right: NDArray[np.bool_], champion: NDArray[np.bool_] | None) -> list[SliceScore]:
    known = [(name, rows, False) for name, rows in slices(test)]
    found = [(name, rows, True) for name, rows in weak_slices(test, ~right)]
    theirs = right if champion is None else champion
    return [
        SliceScore(
            name, int(rows.sum()), int(right[rows].sum()),
            int((right & ~theirs)[rows].sum()), int((~right & theirs)[rows].sum()), weak,
        )
        for name, rows, weak in known + found
    ]  # fmt: skip


def _latency(classifier: Classifier, texts: list[str]) -> float:
    """Return the 99th percentile of the time that a single text takes, in milliseconds."""
    some = np.random.default_rng(_SEED).choice(len(texts), min(_SINGLE_TEXTS, len(texts)), replace=False)
    times = []
    for row in some:
        started = time.perf_counter()
        classifier.probabilities([texts[row]])
        times.append(time.perf_counter() - started)
    return 1000 * float(np.quantile(times, 0.99))


def _leaked(dataset: Dataset) -> int:
    """Count the test rows whose text, but for case, markup and white space, is a train row's."""
    lowered = Cleaning(lowercase=True)
    keys = [clean(text, lowered) for text in dataset.test.texts]
    asked = set(keys)
    leaked = {key for text in dataset.train.texts if (key := clean(text, lowered)) in asked}
    return sum(key in leaked for key in keys)


def _table(test: pd.DataFrame, given: Answers, champion: Answers | None, baseline: NDArray[np.object_]) -> pd.DataFrame:
    table = test[["id", "label"]].copy()
    for prefix, answers in (("", given), ("champion_", champion)):
        if answers is not None:
            table[f"{prefix}answer"] = answers.names
            table[f"{prefix}confidence"] = answers.confidence
            table[f"{prefix}truth_probability"] = answers.truth_probability
    table["baseline_answer"] = baseline
    return table


def finish_bundle(bundle: Path, evaluation: Evaluation, dataset: Dataset, out: Path) -> Bundle:
    """Return a copy of the bundle with its test metrics and its model card."""
    draft = Bundle.open(bundle)
    shutil.copytree(
        bundle, out, copy_function=_link, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SPEC_FILE, CARD_FILE)
    )
    metrics = {**draft.spec.metrics, "test_rows": float(evaluation.rows), **by_key(evaluation)}
    spec = draft.spec.model_copy(update={"metrics": metrics})
    (out / CARD_FILE).write_text(model_card(spec, evaluation.score.classes, dataset.report["rows"]), encoding="utf-8")
    return seal(out, spec)


def _link(source: str, target: str) -> None:
    """Link the file where the file system can, since no file of a bundle ever changes; copy it otherwise."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
