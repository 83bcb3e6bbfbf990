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
from google.protobuf import json_format
from jsonschema import Draft202012Validator
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest

from components.tasks.task import load_task, task_names
from components.training.distributed import train_worker
from components.tuning import trial
from pipelines.cli.app import app
from predictor.serving.wire.openapi import document
from tests.conftest import ROOT

_KUBECTL = {"apply", "create", "get", "kustomize", "port-forward"}
# Programs of others, whose arguments are theirs.
_OTHERS = {"cat", "cd", "head", "nc", "printf", "sleep", "git", "redis-server"}

# The schemas of what is sent.
_REQUESTS = {
    "/v1/models/classifier:predict": "V1Request",
    "/v1/models/classifier:feedback": "Labelled",
    "/v2/models/classifier/infer": "V2Request",
    "/v1/classify": "RestText",
    "/v1/classify/batch": "RestBatch",
}

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
def page(ordinal: bool = False, multi_label: bool = False) -> dict[str, Any]:
    """Return what the server says it takes and answers, for a model `classifier` of too many labels to be listed."""
    return document("classifier", "0", ["a"] * 1000, ordinal=ordinal, multi_label=multi_label)


def is_served(path: str) -> bool:
    """Whether the server answers a path, in which `VERB` may stand for a task's verb."""
    known = [re.sub(r"\\\{id\\}", "[0-9a-f]{32}", re.escape(each)) for each in page()["paths"]]
    known += ["/docs", "/openapi\\.json", "/ui"]
    verbs = "|".join(["VERB", *(load_task(name).answer.verb for name in task_names())])
    return any(re.fullmatch(each, re.sub(rf"^/v1/({verbs})\b", "/v1/classify", path)) for each in known)


def faults(body: Any, schema: str, ordinal: bool = False, multi_label: bool = False) -> list[Any]:
    """Return what a JSON body lacks to be of a schema of the page."""
    whole = {"$ref": f"#/components/schemas/{schema}", "components": page(ordinal, multi_label)["components"]}
    return list(Draft202012Validator(whole).iter_errors(body))


@cache
def code_of_the_project() -> str:
    """Return the text of all files that may read a variable or define a name."""
    files = [ROOT / "Makefile", *(ROOT / ".ci").iterdir()]
    for folder in ("predictor", "components", "pipelines", "images", "manifests", "kustomize", ".github", "tests"):
        files += [file for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".yaml", ".yml", ".Dockerfile")]
    files = [file for file in files if not file.is_relative_to(ROOT / "tests/docs")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def check_name(name: str) -> None:
    """Check that a name, such as a variable's, a parameter's or a metric's, or its end, stands in the code.

    Raises:
        Broken: it does not.
    """
    if not re.search(rf"{re.escape(name)}\b", code_of_the_project()):
        raise Broken(f"nothing in the code is called {name}")


def named(words: Sequence[str]) -> tuple[Any, list[str]]:
    """Return the command that words such as `rollout status news` name, and the words after its name.

    Raises:
        Broken: there is none, or it has no such option.
    """
    command, left = cli(), list(words)
    while left and getattr(command, "commands", None) and re.fullmatch(r"[a-z][a-z-]+", left[0]):
        word = left.pop(0)
        if word not in command.commands:
            raise Broken(f"pigeonhole has no command {word}")
        command = command.commands[word]
    for word in left:
        if re.fullmatch(r"--[a-z][\w-]*(=.*)?", word) and word.partition("=")[0] not in options(command):
            raise Broken(f"pigeonhole {command.name} has no option {word}")
    return command, left


def _pigeonhole(arguments: Sequence[str]) -> None:
    command, left = named(arguments)
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
    schema = ""
    for argument in arguments:
        if argument.startswith("localhost:"):
            path = re.sub(r"(/models/)[^/:]+", r"\1classifier", urlsplit(f"http://{argument}").path)
            if not is_served(path):
                raise Broken(f"the server has no {path}")
            schema = _REQUESTS.get(path, "")
    for body in _values(arguments, "-d"):
        try:
            asked = json.loads(body)
        except ValueError as error:
            raise Broken(f"{body} is no JSON: {error}") from error
        # Values may be wrong on purpose, names may not.
        for fault in faults(asked, schema) if schema else ():
            if fault.validator == "required":
                raise Broken(f"{body}: {fault.message}")


def _grpcurl(arguments: Sequence[str]) -> None:
    for body in _values(arguments, "-d"):
        try:
            json_format.Parse(body, ModelInferRequest())
        except json_format.ParseError as error:
            raise Broken(f"{body} is no ModelInferRequest: {error}") from error


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
    "curl": _curl, "docker": _docker, "export": _export, "grpcurl": _grpcurl, "kubectl": _kubectl,
    "kustomize": _kustomize, "make": _make, "pigeonhole": _pigeonhole, "pip": _pip, "python": _python,
    "torchrun": _torchrun,
}  # fmt: skip
