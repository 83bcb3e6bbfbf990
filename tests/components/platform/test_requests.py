"""Requests to an API server: none may wait for ever."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from kubernetes import client

import components
import pipelines
import predictor

# Whatever any of the client's API classes can ask a server for.
_OPERATIONS = {
    name
    for _, api in inspect.getmembers(client, inspect.isclass)
    if api.__name__.endswith("Api")
    for name, member in vars(api).items()
    if inspect.isfunction(member) and not name.startswith("_")
}


def _requests() -> Iterator[tuple[str, ast.Call]]:
    for package in (components, pipelines, predictor):
        for file in Path(package.__path__[0]).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in _OPERATIONS
                ):
                    yield f"{file}:{node.lineno} {node.func.attr}", node


def test_every_request_to_a_cluster_has_a_time_limit() -> None:
    found = dict(_requests())
    assert len(found) > 5 and len(_OPERATIONS) > 500
    unlimited = [
        where
        for where, call in found.items()
        if not any(option.arg == "_request_timeout" and ast.unparse(option.value) != "None" for option in call.keywords)
    ]
    assert not unlimited
