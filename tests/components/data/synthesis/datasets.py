"""Prepared data of the tests, with a class that has few rows."""

import pandas as pd

from components.data.dataset import Dataset, Split

WORDS = {
    "Sports": "The striker scored {n} goals before the keeper of the home team was sent off in minute {n}.",
    "World": "Delegates of {n} countries met in Geneva, and the treaty about {n} islands was signed at last.",
    "Technik": "Das Unternehmen zeigt {n} neue Rechner, die laut Hersteller {n} Mal schneller rechnen als bisher.",
}


def dataset(**rows: int) -> Dataset:
    """Rows of each class in train, and two of each in validation and test."""

    def frame(first: int, counts: dict[str, int]) -> pd.DataFrame:
        made = [
            {"id": f"{label}-{n}", "text": WORDS[label].format(n=n), "label": label}
            for label, count in counts.items() for n in range(first, first + count)
        ]  # fmt: skip
        return pd.DataFrame(made)

    few = dict.fromkeys(rows, 2)
    splits = (Split(frame(0, rows)), Split(frame(1000, few)), Split(frame(2000, few)))
    return Dataset(*splits, sorted(rows), {"sha256": "0" * 64})
