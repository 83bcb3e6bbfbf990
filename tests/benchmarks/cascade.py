"""A bundle with and without its cascade: accuracy on the test rows, and texts a second of the classifier.

    make bench-cascade DATA=path/to/folder BUNDLE=path/to/bundle

Rounds are interleaved: in each, the same rows go through the pair, through the transformer alone, and through a cascade
that is never sure, which has the cost of the linear model and none of its answers.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from components.data.collect import collect_frames
from components.data.prepare import prepare
from components.training.export.paired import paired_interval
from predictor.model.classifier import Classifier
from tests.benchmarks.table import publish, row

SEED = 42
ROUNDS = 5
ROWS = 1_000
"""Of a round."""


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", default="sample", help="as for pigeonhole run; its test rows are asked")
    parser.add_argument("--bundle", required=True, help="a bundle with a cascade")
    asked = parser.parse_args()
    test = prepare(collect_frames(asked.data), SEED).test
    pair, alone, unsure = (Classifier(Path(asked.bundle), cascade=used) for used in (True, False, True))
    if pair.cascade is None or unsure.cascade is None:
        sys.exit(f"{asked.bundle} has no cascade: {pair.bundle.spec.cascade_reason or 'it is older than cascades'}")
    unsure.cascade.spec = pair.cascade.spec.model_copy(update={"threshold": 2.0})
    truth = np.array(test.label_ids(pair.labels))
    print(f"each of {len(test):,} test rows through the pair and through the transformer", flush=True)
    right, transformer = (found.probabilities(test.texts).argmax(axis=1) == truth for found in (pair, alone))
    cleaned = pair.encoder.clean(test.texts)
    exits = pair.cascade(cleaned)[1]
    _, loss = paired_interval(int((transformer & ~right).sum()), int((right & ~transformer).sum()), len(truth))
    rates: dict[str, list[float]] = {"pair": [], "alone": [], "unsure": [], "linear": []}
    some = np.random.default_rng(0)
    for number in range(ROUNDS):
        texts = [test.texts[place] for place in some.choice(len(test), min(ROWS, len(test)), replace=False)]
        for name, found in (("pair", pair), ("alone", alone), ("unsure", unsure)):
            rates[name].append(_rate(found, texts))
        started = time.perf_counter()
        pair.cascade(pair.encoder.clean(texts))
        rates["linear"].append(len(texts) / (time.perf_counter() - started))
        print(
            f"round {number + 1} of {ROUNDS}: {rates['pair'][-1]:,.0f} and {rates['alone'][-1]:,.0f} texts/s",
            flush=True,
        )
    mine, theirs = float(right.mean()), float(transformer.mean())
    name = "transformer alone"
    gain, cost = (
        statistics.median([one / other for one, other in zip(rates[kind], rates["alone"], strict=True)])
        for kind in ("pair", "unsure")
    )
    medians = {kind: statistics.median(found) for kind, found in rates.items()}
    publish(
        "cascade",
        [
            row("test accuracy", "%", 100 * mine, 100 * theirs, name, value=100 * (mine - theirs), goal=-0.1),
            row("most that may be lost (one-sided 95%)", "points", 100 * loss),
            row("texts that the linear model answers", "%", 100 * float(exits.mean())),
            row("classifier", "texts/s", medians["pair"], medians["alone"], name, value=gain),
            row("never sure", "texts/s", medians["unsure"], medians["alone"], name, value=cost, goal=0.95),
            row("linear model with cleaning, one thread", "texts/s", medians["linear"]),
        ],
    )


def _rate(classifier: Classifier, texts: list[str]) -> float:
    started = time.perf_counter()
    classifier.probabilities(texts)
    return len(texts) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
