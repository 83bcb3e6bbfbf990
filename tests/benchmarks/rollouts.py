"""Whole rollouts over simulated traffic: the state machine asks for pods and weights, and gets what they make of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from components.rollout.judging.evidence import Pod, Window
from components.rollout.judging.evidence import Pods as Fared
from components.rollout.judging.judge import judge
from components.rollout.state import ModelVersion, Observation, Phase, Rollout, Settings
from components.rollout.transitions import next_state
from tests.components.rollout.traffic import STABLE, Behaviour, Moment, Pods, Simulated, window
from tests.fakes.kserve_controller import obeyed

_MOST_CHECKS = 100
POD_RATE = 1 / (STABLE.median * math.exp(STABLE.spread**2 / 2))
"""Requests a second that one pod can take at most: one at a time, each of a lognormal's mean."""

Day = Callable[[int], Moment]
"""How things stand in an interval, by its number."""


def incident_first(number: int) -> Moment:
    """Return a day on which three of ten requests fail in the first interval, whoever answers."""
    return Moment(incident=0.3 if number == 1 else 0.0)


def slowing(number: int) -> Moment:
    """Return a day on which every request takes a twentieth longer in each interval than it did in the first."""
    return Moment(slower=1 + 0.05 * (number - 1))


def drifting(random: np.random.Generator) -> Day:
    """Return a day on which requests, their texts, their seconds and their errors all go up and down in half an hour.

    Each by itself: the rate by 20%, the mix by 20%, the seconds by 10%, errors by half.
    """
    starts = random.uniform(0, 2 * math.pi, 4)

    def now(number: int) -> Moment:
        swings = (math.sin(2 * math.pi * number / 15 + start) for start in starts)
        return Moment(*(1 + most * swing for most, swing in zip((0.2, 0.2, 0.1, 0.5), swings, strict=True)))

    return now


@dataclass(frozen=True)
class Setting:
    """A service before a rollout."""

    pods: int
    """That run, whatever the least number is: that is raised to it before the canary comes."""
    load: float
    """Of what they can take at most."""
    crashes: float = 0.0
    """Of the canary's servers, a pod and second."""


def rolled_out(canary: Behaviour, setting: Setting, seed: int) -> Rollout:
    """Take a rollout to its decision, with a window for each check, at the weight and with the pods it has then."""
    random, settings = np.random.default_rng(seed), Settings()
    day = drifting(random)
    rollout = begun(settings, setting.pods)
    found: list[Window] = []
    crashes = 0
    for number in range(1, _MOST_CHECKS):
        service, workloads = obeyed(rollout)
        assert workloads.canary is not None
        pods = Pods(setting.pods, workloads.canary.pods)
        rate = setting.load * setting.pods * POD_RATE
        end = number * settings.interval
        found.append(
            window(end, canary, rollout.weight, rate, settings.interval, random, Simulated(), day(number), pods)
        )
        crashes += random.poisson(setting.crashes * settings.interval * pods.canary)
        first = Pod("one", crashes, "Error, exit code 1", crashed=crashes > 0)
        fared = Fared((Pod("stable"),) * pods.stable, (first, *(Pod("other"),) * (pods.canary - 1)), end)
        rollout = next_state(rollout, Observation(service, end, workloads, judge(found, pods=fared)))
        if rollout.phase is not Phase.JUDGING:
            break
    return rollout


def replayed(canary: Behaviour, day: Day, rate: float, seed: int) -> Phase:
    """Judge ten checks, two at each weight from 10 to 50%, where nothing waits for another request."""
    random, settings = np.random.default_rng(seed), Settings()
    rollout = begun(settings)
    found: list[Window] = []
    for number, weight in enumerate((10, 10, 20, 20, 30, 30, 40, 40, 50, 50), 1):
        end = number * settings.interval
        found.append(window(end, canary, weight, rate, settings.interval, random, Simulated(), day(number)))
        service, workloads = obeyed(rollout)
        following = next_state(rollout, Observation(service, end, workloads, judge(found)))
        if following.phase is Phase.ROLLING_BACK:
            return following.phase
    return Phase.FILLING


def begun(settings: Settings, running: int = 2) -> Rollout:
    """Return a rollout that has its first weight, beside so many pods of the stable version."""
    stable, canary = (
        ModelVersion("a" * 12, "s3://models/" + "a" * 12),
        ModelVersion("b" * 12, "s3://models/" + "b" * 12),
    )
    first = settings.step_weight
    return Rollout(stable, canary, Phase.JUDGING, 0.0, 0.0, settings, weight=first, judged_since=1.0, running=running)
