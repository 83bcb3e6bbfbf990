"""The parts of drift: each compares one side of the window with the reference, by a test and by a size.

A part that cannot be computed is a sentence that says why.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2_contingency, fisher_exact

from components.data.language import languages
from components.monitoring.drift.features import embedding, traits
from components.monitoring.drift.index import Finding
from components.monitoring.drift.rows import Known, ReferenceRows, Window
from components.monitoring.drift.two_sample import Shift, classifier_test, mmd_test, spread_test
from predictor.model.reference import CONFIDENCE_EDGES, bucket_counts

LEAST_ROWS = 50
"""Texts of a window, or of those of it that the log kept, under which nothing is compared."""
OTHERS = "(others)"
_LEAST_EXPECTED = 5
_NAMED = 3
_NO_ROWS = "the bundle has no reference.parquet: train it again to have this part"
_NO_TEXTS = "the log keeps too few texts: leave redaction out to have this part"

Counts = Mapping[str, float]


def findings(known: Known, window: Window) -> tuple[dict[str, Finding | str], NDArray[np.float64] | None]:
    """Return every part by name, and how unlike the reference each text is; None where texts are missing.

    Args:
        known: what the bundle knows.
        window: at least `LEAST_ROWS` texts.
    """
    reference = known.rows
    found: dict[str, Finding | str] = {
        "predictions": predictions(known, window),
        "confidence": confidence(known, window),
    }
    texts = [text for text in window.texts if text is not None]
    kept = np.array([text is not None for text in window.texts])
    of_texts: dict[str, Callable[[ReferenceRows, Sequence[str]], Finding]] = {
        "length": length,
        "vocabulary": vocabulary,
        "language": language,
    }
    why = _NO_ROWS if reference is None else _NO_TEXTS if len(texts) < LEAST_ROWS else ""
    if why or reference is None:
        return {**found, **dict.fromkeys((*of_texts, "classifier", "embedding"), why)}, None
    found |= {name: part(reference, texts) for name, part in of_texts.items()}
    rows = len(reference.texts)
    every = [*reference.texts, *texts]
    answers = [
        *reference.answers,
        *(answer for answer, text in zip(window.answers, window.texts, strict=True) if text is not None),
    ]
    sure = np.concatenate([reference.confidence, window.confidence[kept]])
    told = classifier_test(traits(every, answers, sure), rows)
    found["classifier"] = _of_shift(told, "words, answers and confidence")
    found["embedding"] = _of_shift(mmd_test(embedding(every), rows), "the embedding of its texts")
    unlike = np.full(len(window), np.nan)
    unlike[kept] = told.unlike[rows:]
    return found, unlike


def predictions(known: Known, window: Window) -> Finding:
    """Compare the shares of the answers; of a multi-label model, of the texts that have each label."""
    if known.rows:
        rows = len(known.rows.answers)
        before: Counts = known.label_counts(known.rows.answers)
    else:
        rows = sum(known.histograms.confidence_histogram)
        before = {label: share * rows for label, share in known.histograms.class_shares.items()}
    now = known.label_counts(window.answers)
    return label_shares(before, rows, now, len(window)) if known.multi_label else shares(before, now)


def confidence(known: Known, window: Window) -> Finding:
    """Compare how sure the model is."""
    if known.rows:
        return spread(known.rows.confidence, window.confidence, "probability of the answer", "{:.2f}")
    edges = [f"up to {edge:g}" for edge in (*CONFIDENCE_EDGES, float("inf"))]
    now = bucket_counts(window.confidence, CONFIDENCE_EDGES)
    return shares(
        dict(zip(edges, known.histograms.confidence_histogram, strict=True)), dict(zip(edges, now, strict=True))
    )


def length(reference: ReferenceRows, texts: Sequence[str]) -> Finding:
    """Compare the texts' lengths in characters."""
    return spread([len(text) for text in reference.texts], [len(text) for text in texts], "characters", "{:.0f}")


def vocabulary(reference: ReferenceRows, texts: Sequence[str]) -> Finding:
    """Compare the share of words that no other text of the reference has."""
    return spread(reference.unknown, reference.unknown_in(texts), "share of unknown words", "{:.2f}")


def language(reference: ReferenceRows, texts: Sequence[str]) -> Finding:
    """Compare the shares of languages."""
    return shares(Counter(reference.languages), Counter(languages(texts)))


def spread(before: ArrayLike, now: ArrayLike, what: str, written: str) -> Finding:
    """Compare two sets of numbers."""
    sides = np.asarray(before, dtype=np.float64), np.asarray(now, dtype=np.float64)
    low, middle = ([written.format(float(np.quantile(side, at))) for side in sides] for at in (0.1, 0.5))
    note = f"{what}: median {middle[0]} before and {middle[1]} now, lowest tenth up to {low[0]} and {low[1]}"
    return Finding(*spread_test(*sides), note)


def shares(before: Counts, now: Counts) -> Finding:
    """Compare counts of categories: the chi-square test, by the total variation distance; the note has the PSI.

    Categories of which less than five are expected in either set are counted together; of two that are left Fisher's
    exact test is made.

    Args:
        before: counts of the reference by category, of which at least one is not 0.
        now: of the window.
    """
    names, table = _table(before, now)
    if len(names) < 2:
        return Finding(0.0, 1.0, f"all {names[0]}, before and now")
    parts = table / table.sum(axis=1, keepdims=True)
    size = float(np.abs(parts[1] - parts[0]).sum() / 2)
    p_value = fisher_exact(table.round()).pvalue if len(names) == 2 else chi2_contingency(table).pvalue
    largest = np.argsort(-np.abs(parts[1] - parts[0]), kind="stable")[:_NAMED]
    moved = ", ".join(f"{names[place]} {parts[0][place]:.0%} to {parts[1][place]:.0%}" for place in largest)
    return Finding(size, float(p_value), f"PSI {psi(table):.2f}: {moved}")


def label_shares(before: Counts, rows_before: int, now: Counts, rows: int) -> Finding:
    """Compare how many texts have each label, where a text may have several: Fisher's exact test of each label.

    The p-value is the least one times the number of labels (Bonferroni), since labels of one text depend on each other.
    The size is the largest change of a share: so many texts at least have to be others. The PSI in the note is that of
    the labels' counts.

    Args:
        before: texts of the reference by label.
        rows_before: all of them.
        now: texts of the window by label.
        rows: all of them.
    """
    names = sorted(name for name in {*before, *now} if before.get(name, 0) + now.get(name, 0) > 0)
    if not names:
        return Finding(0.0, 1.0, "no text has a label, before and now")
    table = np.array([[counts.get(name, 0) for name in names] for counts in (before, now)], dtype=np.float64).round()
    parts = table / np.array([[rows_before], [rows]])
    absent = np.maximum(np.array([[rows_before], [rows]]) - table, 0)
    p_values = [float(fisher_exact([table[:, place], absent[:, place]]).pvalue) for place in range(len(names))]
    moved = np.abs(parts[1] - parts[0])
    largest = np.argsort(-moved, kind="stable")[:_NAMED]
    said = ", ".join(f"{names[place]} {parts[0][place]:.0%} to {parts[1][place]:.0%}" for place in largest)
    return Finding(
        float(min(1.0, moved.max())), min(1.0, len(names) * min(p_values)), f"PSI {psi(table):.2f}, by label: {said}"
    )


def psi(table: NDArray[np.float64]) -> float:
    """Return the population stability index of counts of shape (2, categories); half a row more in each category."""
    parts = (table + 0.5) / (table + 0.5).sum(axis=1, keepdims=True)
    return float(((parts[1] - parts[0]) * np.log(parts[1] / parts[0])).sum())


def _table(before: Counts, now: Counts) -> tuple[list[str], NDArray[np.float64]]:
    """Return the categories, the most frequent first and the rare ones as one, and their counts: (2, categories)."""
    sums = {name: before.get(name, 0) + now.get(name, 0) for name in {*before, *now}}
    names = sorted((name for name, count in sums.items() if count > 0), key=lambda name: (-sums[name], name))
    totals = sum(before.values()), sum(now.values())
    least = _LEAST_EXPECTED * sum(totals) / max(1, min(totals))
    common = [name for name in names if sums[name] >= least]
    rare = names[len(common) :]
    # Until there are enough of the others; two categories are left in any case, for an exact test.
    while rare and len(common) > 1 and sum(sums[name] for name in rare) < least:
        rare.insert(0, common.pop())
    rows = [[counts.get(name, 0) for name in common] for counts in (before, now)]
    if rare:
        common = [*common, OTHERS if len(rare) > 1 else rare[0]]
        for row, counts in zip(rows, (before, now), strict=True):
            row.append(sum(counts.get(name, 0) for name in rare))
    return common, np.array(rows, dtype=np.float64)


def _of_shift(shift: Shift, what: str) -> Finding:
    return Finding(shift.size, shift.p_value, f"by {what} {shift.size:.0%} of the window is unlike what came before")
