"""How a command is declared: its docstring is its help, and a parameter may stand for a group of options."""

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import typer

_Function = TypeVar("_Function", bound=Callable[..., None])
_EXAMPLES = re.compile(r"^(?=Examples?:$)", re.MULTILINE)
_KEEP_LINES = "\b\n"
"""Before a paragraph: help does not wrap its lines anew."""


class Commands(typer.Typer):
    """A group of commands.

    The examples in a command's docstring are shown line by line. A parameter whose type is a dataclass becomes an
    option for each field, and the command gets the dataclass.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            no_args_is_help=True,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,
            context_settings={"max_content_width": 120},
            **settings,
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[_Function], _Function]:
        """Return what adds a function as a command of this name, by default the function's own."""

        def register(function: _Function) -> _Function:
            text = _EXAMPLES.sub(_KEEP_LINES, inspect.getdoc(function) or "")
            typer.Typer.command(self, name, help=text, **settings)(_one_option_a_field(function))
            return function

        return register


def _one_option_a_field(function: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(function)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for parameter in signature.parameters.values():
        options = [parameter]
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
            options = [
                inspect.Parameter(field.name, parameter.kind, default=field.default, annotation=field.type)
                for field in fields(parameter.annotation)
            ]
        parameters += [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]

    @functools.wraps(function)
    def command(**values: Any) -> None:
        grouped = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        function(**values, **grouped)

    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command
