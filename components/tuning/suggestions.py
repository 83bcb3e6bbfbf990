"""The next point of a search, drawn with the libraries that Katib's suggestion services use."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import hyperopt
import numpy as np
from sklearn.model_selection import ParameterGrid

from components.tuning.experiment import Experiment, Parameter
from components.tuning.validation import LOCAL_ALGORITHMS, LOCAL_DISTRIBUTIONS
from predictor.errors import InputError

_RANDOM_STATE = 42


@dataclass(frozen=True)
class Observation:
    """A finished trial: its hyper-parameters and its objective."""

    assignments: Mapping[str, str]
    objective: float


def check_local(experiment: Experiment) -> None:
    """Check that an experiment can run on one machine.

    Raises:
        InputError: its algorithm or a distribution needs a cluster.
    """
    if experiment.algorithm not in LOCAL_ALGORITHMS:
        raise InputError(
            f"algorithm {experiment.algorithm} needs a cluster: on one machine choose {', '.join(LOCAL_ALGORITHMS)}"
        )
    for parameter in experiment.parameters:
        if parameter.distribution not in LOCAL_DISTRIBUTIONS:
            raise InputError(
                f"distribution {parameter.distribution} of {parameter.name} needs a cluster: on one machine choose "
                f"{' or '.join(LOCAL_DISTRIBUTIONS)}"
            )


def suggest(experiment: Experiment, number: int, finished: Sequence[Observation]) -> dict[str, str] | None:
    """Return the assignments of trial `number`, or None when a grid has no more points.

    The result depends on the arguments alone, so that a killed search goes on as an uninterrupted one would.

    Args:
        experiment: the search.
        number: counts trials from 0.
        finished: the trials with an objective, in the order they ended; only `tpe` uses them.
    """
    if experiment.algorithm == "grid":
        points = ParameterGrid({parameter.name: parameter.grid() for parameter in experiment.parameters})
        return {name: points[number][name] for name in _names(experiment)} if number < len(points) else None
    state = int(experiment.settings.get("random_state", _RANDOM_STATE))
    seed = int(np.random.SeedSequence((state, number)).generate_state(1)[0])
    domain = hyperopt.Domain(None, {p.name: _dimension(p) for p in experiment.parameters}, pass_expr_memo_ctrl=None)
    draw = hyperopt.rand.suggest
    if experiment.algorithm == "tpe":
        # As in Katib's service: the first batch is random, all later draws use the finished trials.
        draw = partial(
            hyperopt.tpe.suggest, n_startup_jobs=experiment.parallel, verbose=False, **_settings(experiment.settings)
        )
    (document,) = draw([len(finished)], domain, _history(experiment, domain, finished), seed)
    values = document["misc"]["vals"]
    return {parameter.name: _text(parameter, values[parameter.name][0]) for parameter in experiment.parameters}


def _names(experiment: Experiment) -> list[str]:
    return [parameter.name for parameter in experiment.parameters]


def _settings(settings: Mapping[str, str]) -> dict[str, float | int]:
    kinds = {"gamma": float, "prior_weight": float, "n_EI_candidates": int}
    return {name: kinds[name](value) for name, value in settings.items() if name in kinds}


def _dimension(parameter: Parameter) -> Any:
    """Return hyperopt's node for the index in a list, the number of steps from the lowest, or the value itself."""
    if parameter.choices:
        return hyperopt.hp.choice(parameter.name, list(parameter.choices))
    if parameter.distribution == "logUniform":
        return hyperopt.hp.loguniform(parameter.name, math.log(parameter.low), math.log(parameter.high))
    if parameter.step:
        # Steps are counted from min, since hyperopt's own are counted from 0 and leave the range. Half a step on either
        # side makes both ends as likely as the other values, which they are not with hyperopt's uniformint.
        return hyperopt.hp.quniform(parameter.name, -0.5, parameter.steps - 0.5, 1)
    return hyperopt.hp.uniform(parameter.name, float(parameter.low), float(parameter.high))


def _text(parameter: Parameter, value: float) -> str:
    if parameter.choices:
        return parameter.choices[int(value)]
    if parameter.step:
        log = parameter.distribution == "logUniform"
        index = round((value - float(parameter.low)) / float(parameter.step) if log else value)
        return parameter.at(min(max(index, 0), parameter.steps - 1))
    # exp(log(x)) may differ from x in the last digit.
    return repr(min(max(float(value), float(parameter.low)), float(parameter.high)))


def _position(parameter: Parameter, text: str) -> float:
    """Return the number that stands for a value in hyperopt: the inverse of `_text`."""
    if parameter.choices:
        return parameter.choices.index(text)
    if parameter.step and parameter.distribution != "logUniform":
        return int((Decimal(text) - parameter.low) / parameter.step)
    return float(text)


def _history(experiment: Experiment, domain: Any, finished: Sequence[Observation]) -> Any:
    trials = hyperopt.Trials()
    sign = -1.0 if experiment.objective.maximize else 1.0  # hyperopt minimises
    for number, observation in enumerate(finished):
        values = {p.name: [_position(p, observation.assignments[p.name])] for p in experiment.parameters}
        misc = {
            "tid": number, "cmd": domain.cmd, "workdir": domain.workdir,
            "idxs": {name: [number] for name in values}, "vals": values,
        }  # fmt: skip
        result = {"loss": sign * observation.objective, "status": hyperopt.STATUS_OK}
        (document,) = trials.new_trial_docs([number], [None], [result], [misc])
        document["state"] = hyperopt.JOB_STATE_DONE
        trials.insert_trial_doc(document)
    trials.refresh()
    return trials
