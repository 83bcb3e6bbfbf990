"""More rows of rare classes, written by a language model."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import httpx

from components.data.dataset import Dataset
from components.data.synthesis.answers import Answers, question, texts_in
from components.data.synthesis.endpoint import Answer, Endpoint
from components.data.synthesis.rows import MadeRows, echoes, new_folder, real_texts, wanted
from components.platform.progress import say
from predictor.errors import InputError, Unavailable

ANSWERS_FILE = ".answers.jsonl"
# A model that brings so many answers in a row without a usable row will bring no other.
_MOST_USELESS = 5
# Questions of a class are so many times those that its rows need, if each brings all that it is asked for.
_PATIENCE = 3


@dataclass(frozen=True)
class Wish:
    """What is asked for, and how much it may cost in all, over all starts."""

    target: int = 0
    """Rows a class; 0 for the median of the classes."""
    examples: int = 3
    """Real texts of the class that a question shows; 0 sends no text of the data to the server."""
    rows: int = 10
    """Rows that a question asks for."""
    requests: int = 100
    """Most questions."""
    tokens: int = 200_000
    """Most tokens of questions and answers: none is asked that may go beyond."""
    answer_tokens: int = 4_000
    """Most tokens of an answer."""
    seed: int = 42

    def __post_init__(self) -> None:
        least = {"target": 0, "examples": 0, "rows": 1, "requests": 1, "tokens": 1, "answer_tokens": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise InputError(
                    f"--{name.replace('_', '-')} {getattr(self, name)} is out of range: give at least {bound}"
                )


def generate(
    dataset: Dataset, out: Path, endpoint: Endpoint, wish: Wish, tell: Callable[[str], None] = say
) -> dict[str, Any]:
    """Let a model write rows of each class that has fewer train rows than the target.

    Answers are kept in the folder, so that a start that goes on with an earlier one asks for none of them again. A row
    is dropped if its text is in any split, was made before, or echoes an example that was shown.

    Args:
        dataset: the prepared rows; only texts of train are shown to the model.
        out: folder for `train.jsonl`, `synthetic.json` and the answers.
        endpoint: the model.
        wish: what is asked for.
        tell: gets a sentence now and then.

    Returns:
        `rows`, `rows_by_label`, `missing` (rows by label below the target), `rejected` by reason, `requests`, `tokens`,
        `stopped` (why rows are missing, if they are) and `file`.

    Raises:
        InputError: the server refuses a question, or the folder holds answers to other ones.
        Unavailable: the server is away; what was made before is written.
    """
    new_folder(out)
    asked = {"source": endpoint.source, "dataset": dataset.digest, "examples": wish.examples, "rows": wish.rows,
             "seed": wish.seed}  # fmt: skip
    run = _Run(dataset, Answers(out / ANSWERS_FILE, asked), endpoint, wish, tell)
    try:
        with httpx.Client() as client:
            run.to_the_end(client)
    finally:
        report = run.made.save(out, run.needed, {
            "requests": len(run.answers), "tokens": run.answers.tokens, "stopped": run.stopped,
        })  # fmt: skip
    return report


class _Run:
    """One start: questions in turn for each class that still needs rows, so that a budget is shared by all."""

    def __init__(
        self, dataset: Dataset, answers: Answers, endpoint: Endpoint, wish: Wish, tell: Callable[[str], None]
    ) -> None:
        self.answers, self.needed = answers, wanted(dataset, wish.target)
        self.made = MadeRows.beside(dataset, endpoint.source)
        self.stopped = ""
        self._labels, self._texts = dataset.labels, real_texts(dataset)
        self._endpoint, self._wish, self._tell = endpoint, wish, tell
        self._useless = 0

    def to_the_end(self, client: httpx.Client) -> None:
        """Ask until all rows are there, or a limit is reached."""
        number, open_labels = 0, list(self.needed)
        while open_labels and not self.stopped:
            for label in open_labels:
                if not self.stopped:
                    self._ask(client, label, number)
            number += 1
            open_labels = [label for label in open_labels if self._goes_on(label, number)]
        if not self.stopped and any(self.made.counts[label] < rows for label, rows in self.needed.items()):
            self.stopped = "too many rows were unusable"

    def _goes_on(self, label: str, number: int) -> bool:
        needed = self.needed[label]
        return self.made.counts[label] < needed and number < _PATIENCE * ceil(needed / self._wish.rows)

    def _ask(self, client: httpx.Client, label: str, number: int) -> None:
        chance = random.Random(f"{self._wish.seed} {label} {number}")
        texts = self._texts[label]
        examples = chance.sample(texts, min(self._wish.examples, len(texts)))
        answer = self.answers.get(label, number)
        new = answer is None
        if answer is None:
            answer = self._new_answer(client, label, number, examples)
        if answer is None:
            return
        before = self.made.counts[label]
        for text in texts_in(answer, label, self.made.rejected):
            if self.made.counts[label] >= self.needed[label]:
                break
            if echoes(text, examples):
                self.made.rejected["echo of an example"] += 1
            else:
                self.made.add(text, label)
        useful = self.made.counts[label] > before
        self._useless = 0 if useful else self._useless + new
        if self._useless >= _MOST_USELESS:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in self.made.rejected.items())
            self.stopped = f"the last {_MOST_USELESS} answers held no usable row ({reasons})"

    def _new_answer(self, client: httpx.Client, label: str, number: int, examples: list[str]) -> Answer | None:
        messages = question(label, self._labels, examples, self._wish.rows, number)
        likely = sum(len(message["content"]) for message in messages) // 3 + self._wish.answer_tokens
        if max(len(self.answers), self._endpoint.asked) >= self._wish.requests:
            self.stopped = f"the budget of {self._wish.requests:,} requests is spent"
        elif self.answers.tokens + likely > self._wish.tokens:
            self.stopped = f"the budget of {self._wish.tokens:,} tokens has no room for another question"
        if self.stopped:
            return None
        try:
            answer = self._endpoint.ask(client, messages, self._wish.answer_tokens)
        except Unavailable as error:
            self.stopped = str(error)
            raise
        self.answers.keep(label, number, answer)
        self._tell(
            f"{len(self.made.rows):,} rows made with {len(self.answers):,} requests and {self.answers.tokens:,} tokens"
        )
        return answer
