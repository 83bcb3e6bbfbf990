"""What a user may set of the prepare step, by name: the thresholds that fail a run, and how splits are drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from predictor.errors import InputError
from predictor.label_sets import SEPARATOR
from predictor.model.text import MOST_CHARS

RANDOM, TIME, GROUP = "random", "time", "group"
_MOST_NAMED = 10


@dataclass(frozen=True)
class Classes:
    """What a task says of its classes."""

    names: tuple[str, ...] = ()
    """In their order; the data may lack some but has no others. Empty for those that the data has, by name."""
    ordinal: bool = False
    """Whether they are steps from the lowest to the highest."""
    multi_label: bool = False
    """Whether a text may have any number of them, also none."""

    def __post_init__(self) -> None:
        if self.ordinal and self.multi_label:
            raise InputError("the classes are ordinal and multi_label: a text with several has no place in their order")
        if self.multi_label and (joined_name := next((name for name in self.names if SEPARATOR in name), "")):
            raise InputError(f"the label '{joined_name}' has a {SEPARATOR}, which stands between labels: rename it")
        if self.ordinal and not self.names:
            raise InputError("the classes are ordinal, but not named: give labels, from the lowest to the highest")
        if len(set(self.names)) < len(self.names) or len(self.names) == 1:
            raise InputError(f"the labels are {', '.join(self.names)}: give two or more different names, or none")

    def places(self, found: Sequence[str]) -> list[int]:
        """Return the positions in `found`, the labels of the data, of the classes in their order.

        Raises:
            InputError: the data has a label that is no class.
        """
        if not self.names:
            return list(range(len(found)))
        if unknown := [label for label in found if label not in self.names]:
            more = f" and {len(self.names) - _MOST_NAMED} more" if len(self.names) > _MOST_NAMED else ""
            raise InputError(
                f"the data has the label '{unknown[0]}', which the task lacks (it has: "
                f"{', '.join(self.names[:_MOST_NAMED])}{more}): correct the label, or the task's labels"
            )
        return [found.index(name) for name in self.names if name in found]


@dataclass(frozen=True)
class Checks:
    """Thresholds of the data; a run whose data is beyond one fails with a sentence. Shares are of 1."""

    max_rejected: float = 0.2
    """The largest share of rows that cannot be used: without text or label, damaged, over-long and so on."""
    max_conflicts: float = 0.2
    """The largest share of train rows whose text is also there under another label."""
    max_duplicates: float = 0.9
    """The largest share of train rows that are copies of another train row."""
    max_leaked: float = 0.5
    """The largest share of train rows that are dropped because they are, or are close to, a validation or test row."""
    max_unknown_labels: float = 0.0
    """The largest share of validation or test rows with a label that train lacks; such rows are rejected."""
    max_foreign_language: float = 0.2
    """The largest share of rows in a language that fewer than one row in twenty has."""
    min_rows_per_class: float = 2
    """The fewest rows of a class in train before splits are drawn from it."""
    max_imbalance: float = 1000
    """The most rows of a class in train, as a multiple of the fewest."""
    max_characters: float = MOST_CHARS
    """Longer texts are rejected: what is beyond the default would not be read by the model either."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name in ("min_rows_per_class", "max_imbalance", "max_characters"):
                if not (value >= 1 and math.isfinite(value)):
                    raise InputError(f"the check {name} is {value:g}: give a number of at least 1")
            elif not 0 <= value <= 1:
                raise InputError(f"the check {name} is {value:g}: give a share from 0 to 1")

    @classmethod
    def named(cls, values: Mapping[str, float | str]) -> "Checks":
        """Make checks of a pipeline's parameter.

        Raises:
            InputError: there is no such check, or a value is no number or out of range.
        """
        numbers = {}
        for name, value in _known(cls, "check", values).items():
            try:
                numbers[name] = float(value)  # KFP takes any JSON, such as text
            except (TypeError, ValueError):
                raise InputError(f"the check {name} is {value!r}: give a number") from None
        return cls(**numbers)


@dataclass(frozen=True)
class SplitRule:
    """How missing validation and test splits are drawn from train."""

    by: str = RANDOM
    """`random` (class by class), `time` (the newest rows are the test, the next the validation) or `group` (no group
    is in two splits)."""
    column: str = ""
    """The column with the time or the group."""
    held_out: float = 0.1
    """The share of the train rows that a missing split gets, at most a half."""
    most_held_out: int = 3000
    """The greatest number of rows of a drawn split, unless there are more classes."""
    folds: int = 0
    """With 2 or more, each train row gets a fold, and the baseline is cross-validated; 0 for none."""

    def __post_init__(self) -> None:
        if self.by not in (RANDOM, TIME, GROUP):
            raise InputError(f"the split setting by is '{self.by}': give {RANDOM}, {TIME} or {GROUP}")
        if (self.by == RANDOM) != (not self.column):
            what = f"the column with the {self.by}, as column=NAME" if self.by != RANDOM else "by=time or by=group, too"
            raise InputError(f"the split settings by={self.by} and column='{self.column}' do not fit: give {what}")
        if self.column in ("text", "label"):
            raise InputError(f"the split setting column is '{self.column}': name a column with a {self.by}")
        if not 0 < self.held_out <= 0.5:
            raise InputError(f"the split setting held_out is {self.held_out:g}: give a share above 0, at most 0.5")
        if self.most_held_out < 1:
            raise InputError(f"the split setting most_held_out is {self.most_held_out}: give a number of rows")
        if self.folds != 0 and not 2 <= self.folds <= 100:
            raise InputError(f"the split setting folds is {self.folds}: give 2 to 100, or 0 for none")

    @classmethod
    def named(cls, values: Mapping[str, str]) -> "SplitRule":
        """Make a rule of a pipeline's parameter, in which numbers are text.

        Raises:
            InputError: there is no such setting, a value is no number, or the settings contradict each other.
        """
        kinds: dict[str, Any] = {each.name: each.type for each in fields(cls)}
        settings = {}
        for name, value in _known(cls, "split setting", values).items():
            try:
                settings[name] = kinds[name](value)
            except ValueError:
                raise InputError(f"the split setting {name} is {value!r}: give a number") from None
        return cls(**settings)


def _known(kind: type[Any], what: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    names = [each.name for each in fields(kind)]
    if unknown := [name for name in values if name not in names]:
        raise InputError(f"there is no {what} {unknown[0]}: name some of {', '.join(names)}")
    return values
