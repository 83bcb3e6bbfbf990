"""What a model is asked, what its answer holds, and the file that keeps answers, since they are paid for."""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.data.synthesis.endpoint import Answer
from predictor.errors import InputError

_MOST_NAMES = 50
_LONGEST_EXAMPLE = 1_000
_LONGEST_TEXT = 20_000
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^\s*```\w*\s*$", re.MULTILINE)


def question(
    label: str, labels: Sequence[str], examples: Sequence[str], rows: int, number: int
) -> list[dict[str, str]]:
    """Return the messages that ask for rows of one class.

    Args:
        label: the class.
        labels: all classes, of which the first 50 are named.
        examples: texts of the class to show; may be empty.
        rows: how many are asked for.
        number: of the question, from 0 on.
    """
    names = json.dumps(list(labels[:_MOST_NAMES]), ensure_ascii=False)
    asked = [
        f"Write {rows} new texts of the class {json.dumps(label, ensure_ascii=False)}. All classes are {names}; "
        "no text may fit another class better.",
        f"This is batch {number + 1}: choose other subjects, lengths and wordings than a first idea would bring.",
    ]
    if examples:
        shown = [json.dumps({"text": text[:_LONGEST_EXAMPLE], "label": label}, ensure_ascii=False) for text in examples]
        asked += ["Real texts of the class, for language, style and length; do not repeat or rephrase them:", *shown]
    system = (
        "You write training data for a text classifier. Answer with JSON lines alone: one object a line with the keys "
        '"text" and "label", no list, no numbering, no explanation.'
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": "\n".join(asked)}]


def texts_in(answer: Answer, label: str, rejected: Counter[str]) -> list[str]:
    """Return the texts of an answer that are said to be of the class; what else it holds is counted by reason."""
    content = _FENCE.sub("", _THOUGHTS.sub("", answer.content)).strip()
    if not content:
        rejected["answer without content"] += 1
        return []
    texts = []
    for item in _items(content, answer.cut, rejected):
        text, given = item.get("text"), item.get("label", label)
        if not isinstance(text, str):
            rejected["row without text"] += 1
        elif not isinstance(given, str) or given.strip().casefold() != label.casefold():
            rejected["row of another label"] += 1
        elif len(text) > _LONGEST_TEXT:
            rejected["row too long"] += 1
        else:
            texts.append(" ".join(text.encode("utf-8", "ignore").decode().replace("\0", " ").split()))
    return texts


def _items(content: str, cut: bool, rejected: Counter[str]) -> list[dict[str, Any]]:
    """Return the objects in an answer: JSON lines, as asked for, or a list of objects, alone or under a name."""
    whole = _json(content)
    if isinstance(whole, dict) and "text" not in whole:
        whole = next((value for value in whole.values() if isinstance(value, list)), [whole])
    found: list[Any] = whole if isinstance(whole, list) else [whole] if whole is not None else []
    if not found:
        lines = [line.strip().rstrip(",") for line in content.splitlines() if line.strip().strip("[],")]
        found = [_json(line) for line in lines]
        if cut and found and found[-1] is None:
            found.pop()
            rejected["row cut off"] += 1
    objects = [item for item in found if isinstance(item, dict)]
    if len(found) > len(objects):
        rejected["line that is no JSON object"] += len(found) - len(objects)
    return objects


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class Answers:
    """A file of answers, one a line after a first line that says what was asked; a torn last line is no answer.

    Args:
        file: there or not.
        asked: what decides the questions.

    Raises:
        InputError: the file is of other questions.
    """

    def __init__(self, file: Path, asked: dict[str, Any]) -> None:
        self._file = file
        lines = self._whole_lines()
        if not lines:
            self._append(asked)
        elif lines[0] != asked:
            changed = [name for name in asked if lines[0].get(name) != asked[name]]
            raise InputError(
                f"{file.parent} holds answers to other questions (other: {', '.join(changed)}): give another --out"
            )
        self._kept = {(line["label"], line["number"]): Answer(**line["answer"]) for line in lines[1:]}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def tokens(self) -> int:
        """Tokens of all answers and their questions."""
        return sum(answer.tokens for answer in self._kept.values())

    def get(self, label: str, number: int) -> Answer | None:
        """Return the answer to a question, None if it was not asked."""
        return self._kept.get((label, number))

    def keep(self, label: str, number: int, answer: Answer) -> None:
        """Write an answer down before anything is done with it."""
        self._append({"label": label, "number": number, "answer": asdict(answer)})
        self._kept[label, number] = answer

    def _append(self, line: dict[str, Any]) -> None:
        with self._file.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _whole_lines(self) -> list[dict[str, Any]]:
        if not self._file.exists():
            return []
        content = self._file.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):  # the process was killed while it wrote
            os.truncate(self._file, end)
        return [json.loads(line) for line in content[:end].splitlines()]
