"""Whether a command line of the documents is one that works: its options, targets, folders and bodies exist."""

import importlib.util
import json
import re
import tomllib
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import typer

from components.training.distributed import train_worker
from components.tuning import trial
from pipelines.cli.app import app
from predictor.serving.wire.openapi import document
from tests.conftest import ROOT

_KUBECTL = {"apply", "create", "get", "kustomize", "port-forward"}
# Programs of others, whose arguments are theirs.
_OTHERS = {"cat", "cd", "head", "nc", "printf", "sleep", "git"}

# Commands that parse their own options.
_WORKERS = {"trial": trial.parser, "train-worker": train_worker.parser}


class Broken(Exception):
    """A command of the documents that does not work."""


def check(words: Sequence[str]) -> None:
    """Check one command.

    Raises:
        Broken: it would not run.
    """
    for word in words:
        check_path(word)
    program, *arguments = words
    if program in _CHECKS:
        _CHECKS[program](arguments)
    elif program not in _OTHERS and not re.fullmatch(r"[A-Z_]+=.*", program):
        raise Broken(f"nothing here knows the program {program}")


def check_path(word: str) -> None:
    """Check that a path exists, if its first part is a folder of the checkout that is committed."""
    path = word.rstrip("/")
    if re.fullmatch(r"[\w.*-]+(/[\w.*-]+)+", path) and path.split("/")[0] in committed_folders():
        found = sorted(ROOT.glob(path)) if "*" in path else [ROOT / path]
        if not found or not found[0].exists():
            raise Broken(f"there is no {path}")


@cache
def committed_folders() -> set[str]:
    """Return the names of the top-level folders that are no results of a command."""
    ignored = {line.strip("/\n") for line in (ROOT / ".gitignore").read_text().splitlines()}
    return {folder.name for folder in ROOT.iterdir() if folder.is_dir()} - ignored - {".git"}


@cache
def cli() -> Any:
    """Return the real command line."""
    return typer.main.get_command(app)


def parameters(command: Any) -> list[Any]:
    """Return the parameters of a command and of the commands below it."""
    below = getattr(command, "commands", {}).values()
    return [*command.params, *(parameter for each in below for parameter in parameters(each))]


def options(command: Any) -> set[str]:
    """Return all options of a command and of the commands below it."""
    worker = _WORKERS.get(command.name)
    own = set(worker()._option_string_actions) if worker else set()
    return {"--help"} | own | {name for parameter in parameters(command) for name in parameter.opts}


@cache
def variables() -> set[str]:
    """Return the environment variables that an option takes its value from."""
    given = [parameter.envvar or [] for parameter in parameters(cli())]
    return {name for each in given for name in ([each] if isinstance(each, str) else each)}


@cache
def served_paths() -> set[str]:
    """Return the paths that the server answers for a model `classifier`."""
    return {*document("classifier", "0", ["a", "b"])["paths"], "/metrics", "/docs", "/openapi.json"}


def named(words: Sequence[str]) -> Any:
    """Return the command that words such as `rollout status news` name.

    Raises:
        Broken: there is none, or it has no such option.
    """
    command = cli()
    for word in words:
        if not getattr(command, "commands", None) or not re.fullmatch(r"[a-z][a-z-]+", word):
            break
        if word not in command.commands:
            raise Broken(f"pigeonhole has no command {word}")
        command = command.commands[word]
    for word in words:
        if re.fullmatch(r"--[a-z][\w-]*(=.*)?", word) and word.partition("=")[0] not in options(command):
            raise Broken(f"pigeonhole {command.name} has no option {word}")
    return command


def _pigeonhole(arguments: Sequence[str]) -> None:
    named(arguments)
    command, left = cli(), list(arguments)
    while getattr(command, "commands", None) and left and not left[0].startswith("-"):
        command = command.commands[left.pop(0)]
    try:
        command.make_context(command.name, left)
    except typer.Exit:
        pass  # --help and the like
    except Exception as error:
        raise Broken(f"pigeonhole {' '.join(arguments)}: {getattr(error, 'message', error)}") from error


def _make(arguments: Sequence[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    known = makefile + (ROOT / ".ci/images").read_text()
    for argument in arguments:
        name, assigned, _ = argument.partition("=")
        if assigned and not re.search(rf"\b{name}\b", known):
            raise Broken(f"nothing reads {name}")
        if not assigned and not re.search(rf"^{re.escape(name)}:", makefile, re.MULTILINE):
            raise Broken(f"make has no target {name}")


def _kubectl(arguments: Sequence[str]) -> None:
    if arguments[0] == "pigeonhole":
        _pigeonhole(["rollout", *arguments[1:]])
    elif not _KUBECTL & set(arguments):
        raise Broken(f"kubectl {' '.join(arguments)}: no such command")
    for folder in _values(arguments, "-k"):
        if not (ROOT / folder / "kustomization.yaml").is_file():
            raise Broken(f"{folder} has no kustomization.yaml")


def _curl(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if argument.startswith("localhost:"):
            path = re.sub(r"(/models/)[^/:]+", r"\1classifier", urlsplit(f"http://{argument}").path)
            if path not in served_paths():
                raise Broken(f"the server has no {path}")
    _bodies(arguments)


def _bodies(arguments: Sequence[str]) -> None:
    for body in _values(arguments, "-d"):
        try:
            json.loads(body)
        except ValueError as error:
            raise Broken(f"{body} is no JSON: {error}") from error


def _torchrun(arguments: Sequence[str]) -> None:
    place = list(arguments).index("--no-python") if "--no-python" in arguments else None
    if place is None:
        raise Broken("torchrun runs a command of ours only with --no-python")
    check(arguments[place + 1 :])


def _docker(arguments: Sequence[str]) -> None:
    if arguments[0] not in ("build", "run"):
        raise Broken(f"docker {arguments[0]} is not known here")


def _pip(arguments: Sequence[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in re.findall(r"\[([\w,-]+)]", " ".join(arguments)):
        if missing := set(extra.split(",")) - set(project["optional-dependencies"]):
            raise Broken(f"there is no extra {missing}")


def _python(arguments: Sequence[str]) -> None:
    if arguments[0] == "-m" and importlib.util.find_spec(arguments[1]) is None:
        raise Broken(f"there is no module {arguments[1]}")


def _export(arguments: Sequence[str]) -> None:
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("PIGEONHOLE_") and name not in variables():
            raise Broken(f"no option takes its value from {name}")


def _kustomize(arguments: Sequence[str]) -> None:
    if arguments[0] not in ("build", "edit"):
        raise Broken(f"kustomize {arguments[0]} is not known here")


def _values(arguments: Sequence[str], option: str) -> list[str]:
    return [value for name, value in pairwise(arguments) if name == option]


_CHECKS: dict[str, Callable[[Sequence[str]], None]] = {
    "curl": _curl, "docker": _docker, "export": _export, "grpcurl": _bodies, "kubectl": _kubectl,
    "kustomize": _kustomize, "make": _make, "pigeonhole": _pigeonhole, "pip": _pip, "python": _python,
    "torchrun": _torchrun,
}  # fmt: skip
