"""Texts of the demo: news of a usual mix of topics, and of one that has shifted.

A paper has two sections. While the model is made, readers send news of business and of the world; later they send sport
and science as well, which belong to the same two sections, and which the model has never seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

SECTIONS = {
    "Business": "business-and-sport",
    "Sports": "business-and-sport",
    "World": "world-and-science",
    "Sci/Tech": "world-and-science",
}
_SAMPLE = Path(__file__).parents[2] / "components/data/sample/topics"
_USUAL, _NEW = ("Business", "World"), ("Sci/Tech", "Sports")
_TRAIN_ROWS, _QUIET_ROWS, _USUAL_IN_WAVE = 240, 120, 80
_NEW_IN_WAVE = {"Sci/Tech": 140, "Sports": 60}
"""Science comes more often than sport, so that the shares of the sections shift, too."""


@dataclass(frozen=True)
class Texts:
    """Texts with their true labels, which people would say later."""

    frame: pd.DataFrame
    """Columns `text`, `label` (the section) and `new`: whether its topic is new."""

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class News:
    """What the demo trains on, and what is sent to the model; no text stands in two of them."""

    splits: Mapping[str, pd.DataFrame]
    """`train`, `validation` and `test` of the usual mix."""
    quiet: Texts
    """Traffic of the usual mix."""
    waves: tuple[Texts, Texts]
    """Traffic after the shift: before and after the model is trained again."""

    def write(self, folder: Path) -> None:
        """Write the splits as a folder that `pigeonhole run --data` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in self.splits.items():
            frame[["text", "label"]].to_csv(folder / f"{name}.csv", index=False)


def read_news(seed: int = 7) -> News:
    """Draw the texts from the embedded sample."""
    frames = {name: pd.read_csv(_SAMPLE / f"{name}.csv") for name in ("train", "validation", "test")}
    usual = {name: frame[frame["label"].isin(_USUAL)] for name, frame in frames.items()}
    pool = usual["train"].sample(frac=1, random_state=seed)
    splits = {**usual, "train": pool.iloc[:_TRAIN_ROWS]}
    rest = pool.iloc[_TRAIN_ROWS:]
    others = pd.concat(frames.values()).sample(frac=1, random_state=seed)
    waves = []
    for number in range(2):
        first = _QUIET_ROWS + number * _USUAL_IN_WAVE
        parts = [rest.iloc[first : first + _USUAL_IN_WAVE]]
        for topic, rows in _NEW_IN_WAVE.items():
            parts.append(others[others["label"] == topic].iloc[number * rows : (number + 1) * rows])
        waves.append(_texts(pd.concat(parts).sample(frac=1, random_state=seed)))
    labelled = {name: frame.assign(label=frame["label"].map(SECTIONS)) for name, frame in splits.items()}
    return News(labelled, _texts(rest.iloc[:_QUIET_ROWS]), (waves[0], waves[1]))


def _texts(frame: pd.DataFrame) -> Texts:
    made = frame.assign(new=frame["label"].isin(_NEW), label=frame["label"].map(SECTIONS))
    return Texts(made[["text", "label", "new"]].reset_index(drop=True))
