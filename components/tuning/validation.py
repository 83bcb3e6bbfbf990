"""Reading an Experiment file: what Katib would refuse or misread is an error of one sentence here."""

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml
from kubeflow_katib_api.models import IoK8sApiCoreV1PodSpec, V1beta1Experiment

from components.training.recipe import Recipe
from components.tuning.experiment import (
    PLACEHOLDER,
    Experiment,
    MedianStopping,
    Objective,
    Parameter,
    primary_container,
)
from components.tuning.schema import check_quoted_numbers, check_schema
from predictor.errors import InputError, one_line

API_VERSION = "kubeflow.org/v1beta1"
# The algorithms that also run on one machine, and the settings of each.
LOCAL_ALGORITHMS: dict[str, tuple[str, ...]] = {
    "tpe": ("gamma", "prior_weight", "n_EI_candidates", "random_state"),
    "random": ("random_state",),
    "grid": ("random_state",),
}
CLUSTER_ALGORITHMS = ("multivariate-tpe", "bayesianoptimization", "cmaes", "sobol", "hyperband", "pbt")
LOCAL_DISTRIBUTIONS = ("uniform", "logUniform")
_DISTRIBUTIONS = (*LOCAL_DISTRIBUTIONS, "normal", "logNormal")
# Katib allows 40 characters, and the unique suffix of a run takes 9.
LONGEST_NAME = 31
# Katib's default for lines on stdout.
_METRIC_FORMAT = r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)"


def read_experiment(file: Path) -> Experiment:
    """Read and check an Experiment file.

    Raises:
        InputError: the file cannot be read, or it is not an Experiment that can be run.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read ({error}): give a Katib Experiment as a YAML file") from error
    return parse_experiment(text, str(file))


def parse_experiment(text: str, where: str = "the experiment") -> Experiment:
    """Check an Experiment that is given as YAML.

    Args:
        text: the YAML.
        where: names its origin in error sentences.

    Raises:
        InputError: it is not an Experiment that can be run.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = one_line(error)
        raise InputError(f"{where} is not YAML ({reason}): fix that line") from error
    return check_experiment(document, where)


def check_experiment(document: Any, where: str = "the experiment") -> Experiment:
    """Check an Experiment that is given as the content of its YAML.

    Raises:
        InputError: it is not an Experiment that can be run.
    """
    try:
        return _checked(document)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _checked(document: Any) -> Experiment:
    if not isinstance(document, dict) or document.get("kind") != "Experiment":
        kind = document.get("kind") if isinstance(document, dict) else type(document).__name__
        raise InputError(f"kind is {kind}, not Experiment: give a Katib Experiment ({API_VERSION})")
    if document.get("apiVersion") != API_VERSION:
        raise InputError(f"apiVersion is {document.get('apiVersion')}: Katib's is {API_VERSION}")
    check_quoted_numbers(document)
    check_schema(document, V1beta1Experiment, "")
    name = str((document.get("metadata") or {}).get("name", ""))
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > LONGEST_NAME:
        raise InputError(
            f"metadata.name '{name}' is no name that Katib takes: lower case letters, digits and dashes, a letter "
            f"first, at most {LONGEST_NAME} characters"
        )
    spec = _required(document, "spec")
    algorithm, settings = _algorithm(spec)
    parameters = _parameters(spec, algorithm)
    most = spec.get("maxTrialCount")
    if not most:
        raise InputError("spec.maxTrialCount is missing: say how many trials the search may take")
    parallel, failed = spec.get("parallelTrialCount"), spec.get("maxFailedTrialCount")
    parallel = min(3, most) if parallel is None else parallel
    if not 0 < parallel <= most:
        raise InputError(f"spec.parallelTrialCount is {parallel}: give 1 to maxTrialCount ({most})")
    if failed is not None and not 0 <= failed <= most:
        raise InputError(f"spec.maxFailedTrialCount is {failed}: give 0 to maxTrialCount ({most})")
    if algorithm == "grid" and (points := math.prod(len(p.grid()) for p in parameters)) < most:
        raise InputError(
            f"the grid has {points} points, fewer than spec.maxTrialCount ({most}): lower that to {points}"
        )
    references, command = _template(spec, {parameter.name for parameter in parameters}, document)
    return Experiment(
        name=name, objective=_objective(spec), algorithm=algorithm, settings=settings, parameters=parameters,
        early_stopping=_early_stopping(spec), parallel=parallel, max_trials=most, max_failed=failed,
        command=command, references=references, metric_formats=_metric_formats(spec), document=document,
    )  # fmt: skip


def _required(holder: Mapping[str, Any], path: str) -> Any:
    value: Any = holder
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if value in (None, "", [], {}):
        raise InputError(f"{path} is missing: add it")
    return value


def _objective(spec: Mapping[str, Any]) -> Objective:
    _required({"spec": spec}, "spec.objective")
    metric = _required({"spec": spec}, "spec.objective.objectiveMetricName")
    objective = spec["objective"]
    if objective.get("type") not in ("maximize", "minimize"):
        raise InputError(f"spec.objective.type is {objective.get('type')}: give maximize or minimize")
    additional = tuple(objective.get("additionalMetricNames") or ())
    if metric in additional:
        raise InputError(f"spec.objective.additionalMetricNames repeats the objective {metric}: take it out")
    usual = "max" if objective["type"] == "maximize" else "min"
    strategies = dict.fromkeys((metric, *additional), usual)
    for strategy in objective.get("metricStrategies") or []:
        if strategy.get("name") not in strategies or strategy.get("value") not in ("max", "min", "latest"):
            raise InputError(
                f"spec.objective.metricStrategies has {strategy.get('name')}: {strategy.get('value')}; "
                "give max, min or latest for a metric of the objective"
            )
        strategies[strategy["name"]] = strategy["value"]
    return Objective(metric, objective["type"] == "maximize", objective.get("goal"), additional, strategies)


def _algorithm(spec: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    name = _required({"spec": spec}, "spec.algorithm.algorithmName")
    if name not in LOCAL_ALGORITHMS and name not in CLUSTER_ALGORITHMS:
        raise InputError(
            f"spec.algorithm.algorithmName '{name}' is unknown: choose {', '.join(LOCAL_ALGORITHMS)}, which run on one "
            f"machine too, or {', '.join(CLUSTER_ALGORITHMS)}, which need a cluster"
        )
    settings = {item["name"]: item["value"] for item in spec["algorithm"].get("algorithmSettings") or []}
    for setting, value in settings.items():
        known = LOCAL_ALGORITHMS.get(name)
        if known is not None and setting not in known:
            raise InputError(f"algorithm {name} has no setting '{setting}': it knows {', '.join(known)}")
        if known is not None and _number(value) is None:
            raise InputError(f"setting {setting} of algorithm {name} is {value}: give a number")
        if setting == "random_state" and not value.isdigit():
            raise InputError(f"setting random_state is {value}: give a whole number from 0")
    return name, settings


def _early_stopping(spec: Mapping[str, Any]) -> MedianStopping | None:
    stopping = spec.get("earlyStopping")
    if not stopping:
        return None
    if stopping.get("algorithmName") != "medianstop":
        raise InputError(f"spec.earlyStopping.algorithmName is {stopping.get('algorithmName')}: Katib has medianstop")
    settings = {item["name"]: item["value"] for item in stopping.get("algorithmSettings") or []}
    for name, value in settings.items():
        if name not in ("min_trials_required", "start_step") or not value.isdigit() or int(value) < 1:
            raise InputError(f"medianstop has {name}: {value}; give min_trials_required and start_step, 1 or more")
    return MedianStopping(**{name: int(value) for name, value in settings.items()})


def _metric_formats(spec: Mapping[str, Any]) -> tuple[str, ...]:
    collector = spec.get("metricsCollectorSpec") or {}
    kind = (collector.get("collector") or {}).get("kind", "StdOut")
    if kind != "StdOut":
        raise InputError(f"spec.metricsCollectorSpec.collector.kind is {kind}: trials print, so it has to be StdOut")
    formats = tuple((((collector.get("source") or {}).get("filter")) or {}).get("metricsFormat") or (_METRIC_FORMAT,))
    for pattern in formats:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise InputError(f"metricsFormat {pattern} is no regular expression ({error}): fix it") from None
        if groups < 2:
            raise InputError(f"metricsFormat {pattern} has {groups} groups: it needs two, a name and a value")
    return formats


def _parameters(spec: Mapping[str, Any], algorithm: str) -> tuple[Parameter, ...]:
    _required({"spec": spec}, "spec.parameters")
    parameters = tuple(_parameter(index, item, algorithm) for index, item in enumerate(spec["parameters"]))
    names = [parameter.name for parameter in parameters]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"spec.parameters has {repeated[0]} more than once: keep one")
    return parameters


def _parameter(index: int, item: Mapping[str, Any], algorithm: str) -> Parameter:
    where = f"spec.parameters[{index}]"
    name, kind, space = item.get("name") or "", item.get("parameterType"), item.get("feasibleSpace") or {}
    if kind not in ("double", "int", "discrete", "categorical"):
        raise InputError(f"{where}.parameterType is {kind}: give double, int, discrete or categorical")
    if kind in ("discrete", "categorical"):
        if not space.get("list") or any(key in space for key in ("min", "max", "step")):
            raise InputError(f"{where}.feasibleSpace of {name}: a {kind} parameter has a list, not min, max or step")
        parameter = Parameter(name, kind, choices=tuple(space["list"]))
        for value in parameter.choices:
            _check_recipe(name, value)
        return parameter
    if "list" in space or "min" not in space or "max" not in space:
        raise InputError(f"{where}.feasibleSpace of {name}: a parameter of type {kind} has min and max, not a list")
    bounds: dict[str, Decimal] = {}
    for key in ("min", "max", "step"):
        bound = _number(space[key]) if key in space else Decimal(1)
        if bound is None or (kind == "int" and bound != int(bound)) or (key == "step" and bound <= 0):
            raise InputError(f"{where}.feasibleSpace.{key} of {name} is {space[key]}: give a number that fits {kind}")
        bounds[key] = Decimal(int(bound)) if kind == "int" else bound
    low, high = bounds["min"], bounds["max"]
    if low > high:
        raise InputError(f"{where}.feasibleSpace of {name}: min {low} is more than max {high}: swap them")
    distribution = space.get("distribution") or "uniform"
    if distribution not in _DISTRIBUTIONS:
        raise InputError(f"{where}.feasibleSpace.distribution is {distribution}: give {', '.join(_DISTRIBUTIONS)}")
    if distribution.startswith("log") and low <= 0:
        raise InputError(f"{where}.feasibleSpace of {name}: {distribution} needs a min above 0, not {low}")
    step = bounds["step"] if "step" in space or kind == "int" else None
    if algorithm == "grid" and step is None:
        raise InputError(f"{where}.feasibleSpace of {name} has no step, without which there is no grid: add one")
    _check_recipe(name, str(low))
    _check_recipe(name, str(high))
    if low == high or (step and low + step > high):
        # hyperopt cannot draw from a range of one value.
        return Parameter(name, kind, choices=(format(low, "f"),))
    return Parameter(name, kind, (), low, high, step, distribution)


def _number(text: str | None) -> Decimal | None:
    try:
        value = Decimal(text or "")
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _check_recipe(name: str, value: str) -> None:
    Recipe(epochs=1).with_hyperparameters({name: value})


def _template(
    spec: Mapping[str, Any], searched: set[str], document: Mapping[str, Any]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return (the search parameter of each trial parameter, the command with its placeholders)."""
    for part in ("primaryContainerName", "trialParameters", "trialSpec"):
        _required({"spec": spec}, f"spec.trialTemplate.{part}")
    job = spec["trialTemplate"]["trialSpec"]
    if (job.get("apiVersion"), job.get("kind")) != ("batch/v1", "Job"):
        raise InputError(
            f"trialSpec is a {job.get('kind')} ({job.get('apiVersion')}): the trial has to be a batch/v1 Job"
        )
    pod = _required(job, "spec.template.spec")
    check_schema(pod, IoK8sApiCoreV1PodSpec, "spec.trialTemplate.trialSpec.spec.template.spec")
    try:
        container = primary_container(document)
    except KeyError as error:
        raise InputError(f"primaryContainerName is {error}, but trialSpec has no such container: name one") from None
    if not container.get("command"):
        # Without one Katib reads the image's configuration from its registry, which may not be reachable.
        raise InputError(f"container {container['name']} of trialSpec has no command: write it out")
    command = (*container["command"], *(container.get("args") or ()))
    references: dict[str, str] = {}
    for item in spec["trialTemplate"]["trialParameters"]:
        name, reference = item.get("name"), item.get("reference")
        if reference not in searched:
            raise InputError(
                f"trialParameters: {name} refers to {reference}, which spec.parameters lacks: add it there"
            )
        if name in references or reference in references.values():
            raise InputError(f"trialParameters has {name} (for {reference}) more than once: keep one")
        references[name] = reference
    used = {name for word in command for name in PLACEHOLDER.findall(word)}
    if unknown := sorted(used - set(references)):
        raise InputError(
            f"the trial's command uses ${{trialParameters.{unknown[0]}}}, which trialParameters lacks: add it"
        )
    if unused := sorted(set(references) - used):
        raise InputError(f"the trial's command does not use ${{trialParameters.{unused[0]}}}: hand it over, or drop it")
    if idle := sorted(searched - set(references.values())):
        raise InputError(f"parameter {idle[0]} is searched, but no trialParameters entry refers to it: add one")
    return references, command
