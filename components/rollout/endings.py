"""Ends a rollout early: by hand, or because the pipeline run that started it has ended."""

from dataclasses import replace

from components.platform.kubernetes import Cluster
from components.rollout.controller import BY_HAND, CLOCK, Clock, RolloutRef, begin, run_to_end, why_busy
from components.rollout.desired_spec import is_applied
from components.rollout.inference_service import Conflict, Service, read
from components.rollout.observer import workloads_of
from components.rollout.record import Record, load, save
from components.rollout.state import ModelVersion, Phase, Rollout, Settings
from components.rollout.transitions import rolling_back
from components.rollout.versions import check_bundle, version_at
from predictor.errors import InputError

_UNDOING = (Phase.ROLLING_BACK, Phase.RESTORING)


def promote(cluster: Cluster, name: str, clock: Clock = CLOCK) -> Rollout:
    """Give the canary all traffic without more checks, and return the end of its rollout.

    Raises:
        InputError: no rollout is active, or the canary is not ready.
    """
    service, record = read(cluster, name), load(cluster, name)
    rollout = record.active
    if rollout is None:
        raise InputError(f"inferenceservice {name} has no rollout under way: begin one with pigeonhole rollout start")
    if rollout.phase is Phase.PREPARING and not is_applied(rollout, service, workloads_of(cluster, service, rollout)):
        raise InputError(f"the canary {rollout.canary.name} of {name} is not ready: promote it when it is")
    if rollout.phase in (Phase.PREPARING, Phase.JUDGING):
        decided = replace(rollout, phase=Phase.FILLING, since=clock.now(), reasons=("promoted by hand",))
        try:
            save(cluster, service, record.with_rollout(decided))
        except Conflict:
            return promote(cluster, name, clock)
    return run_to_end(cluster, name, None, clock)


def roll_back(cluster: Cluster, name: str, to: str = "", clock: Clock = CLOCK) -> Rollout:
    """Take the canary back, or without one return to an earlier version, and return the rollout's last state.

    Args:
        cluster: where the service is.
        name: the service's name.
        to: the version; empty for the one that was served before.
        clock: the time.

    Raises:
        InputError: there is no such version, or its bundle is gone.
    """
    service, record = read(cluster, name), load(cluster, name)
    if record.active and record.active.phase is Phase.PROMOTING:
        run_to_end(cluster, name, None, clock)
        service, record = read(cluster, name), load(cluster, name)
    going = record.active
    if going and to and to != going.stable.name:
        raise InputError(why_busy(name, going))
    if going:
        decided = going if going.phase in _UNDOING else rolling_back(going, clock.now(), BY_HAND)
    else:
        version = _earlier_version(record, service, to)
        check_bundle(version)
        if service.standard or to or service.percent is not None:
            begin(cluster, service, record, version, Settings(), clock, judged=False)
            return run_to_end(cluster, name, None, clock)
        # Knative still has the previous revision, so traffic goes back at once and the spec follows.
        now = clock.now()
        decided = Rollout(version, version_at(service.uri), Phase.ROLLING_BACK, now, now, reasons=(BY_HAND,))
    try:
        save(cluster, service, record.with_rollout(decided))
    except Conflict:
        return roll_back(cluster, name, to, clock)
    return run_to_end(cluster, name, None, clock)


def abort(cluster: Cluster, name: str, owner: str, clock: Clock = CLOCK) -> Rollout | None:
    """End the rollout of a pipeline run: finish a promotion that was decided, and take back any other canary.

    Returns:
        The last state of the run's rollout. None where the service's last rollout is not the run's; it is left alone.
    """
    record = load(cluster, name)
    rollout = record.rollout
    if rollout is None or rollout.owner != owner:
        return None
    if rollout.ended:
        return rollout
    if rollout.phase not in (Phase.PROMOTING, *_UNDOING):
        decided = rolling_back(rollout, clock.now(), BY_HAND)
        try:
            save(cluster, read(cluster, name), record.with_rollout(decided))
        except Conflict:  # a judge that has not ended yet took a step, which may be the promotion
            return abort(cluster, name, owner, clock)
    return run_to_end(cluster, name, None, clock, RolloutRef(owner))


def _earlier_version(record: Record, service: Service, to: str) -> ModelVersion:
    served = [e.version for e in record.history if e.outcome in (Phase.PROMOTED, "found")]
    known = {e.version.name: e.version for e in record.history}
    serves = version_at(service.uri).name
    others = [version for version in served if version.name != serves]
    if to and to not in known:
        raise InputError(f"{to} is no version of {service.name}: choose one of {', '.join(known) or 'none so far'}")
    if to and to == serves:
        raise InputError(f"inferenceservice {service.name} serves {to} already: there is nothing to roll back")
    if not to and not others:
        raise InputError(f"inferenceservice {service.name} never served another version: there is nothing to return to")
    return known[to] if to else others[-1]
