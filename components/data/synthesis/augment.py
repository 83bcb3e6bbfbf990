"""More rows of rare classes, by rules."""

import random
from pathlib import Path
from typing import Any

from components.data.dataset import Dataset
from components.data.synthesis.rows import MadeRows, new_folder, real_texts, wanted
from components.data.synthesis.rules import RULES, changed, chosen
from predictor.errors import InputError

SOURCE = "synthetic:rules"
# A short text has few variants: after so many that were there already, the next text's turn comes.
_TRIES = 5


def augment(
    dataset: Dataset, out: Path, target: int = 0, rules: tuple[str, ...] = tuple(RULES), most: int = 10, seed: int = 42
) -> dict[str, Any]:
    """Write made rows of each class that has fewer train rows than the target; the same seed makes the same texts.

    A made row has the label of the train row that it was made of. Its text is none of any split's.

    Args:
        dataset: the prepared rows, of which train rows alone are changed.
        out: folder for `train.jsonl` and `synthetic.json`.
        target: rows a class; 0 for the median of the classes.
        rules: names of the rules.
        most: most rows that are made of one row.
        seed: fixes what is drawn.

    Returns:
        `rows`, `rows_by_label`, `missing` (rows by label below the target), `rejected` by reason, `file`.

    Raises:
        InputError: a rule is unknown, a number out of range, or the folder cannot be made.
    """
    if target < 0 or most < 1:
        raise InputError(f"--target {target} and --most {most} are out of range: give at least 0 and 1")
    applied, needed, texts = chosen(rules), wanted(dataset, target), real_texts(dataset)
    new_folder(out)
    made = MadeRows.beside(dataset, SOURCE)
    for label, rows in needed.items():
        chance = random.Random(f"{seed} {label}")  # so that a class does not depend on which others there are
        own = texts[label].copy()
        chance.shuffle(own)
        for text in own * most:
            if made.counts[label] >= rows:
                break
            any(made.add(changed(text, applied, chance), label) for _ in range(_TRIES))
    return made.save(out, needed, {"seed": seed, "rules": list(rules)})
