"""The control loop of a rollout: read the service and its record, write the next state, reconcile, and repeat.

Every write is conditional on what was read, so several processes may run the loop for the same service.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from components.platform.kubernetes import Cluster
from components.platform.progress import say
from components.rollout.desired_spec import has_replaced_stable, spec_patch
from components.rollout.inference_service import Conflict, Service, patch, read
from components.rollout.observer import Evidence, observe, workloads_of
from components.rollout.record import Record, load, save
from components.rollout.state import ModelVersion, Phase, Rollout, Settings
from components.rollout.transitions import next_state, rolling_back
from components.rollout.versions import check_bundle, predictor_name, version_at
from components.rollout.workloads import check_gateway, deployment_name, why_not_ready, workload
from predictor.errors import InputError, Unavailable

# A canary gets ready within minutes, and KServe moves weights within seconds.
_POLL_SECONDS = 5.0
BY_HAND = "rolled back by hand"


@dataclass(frozen=True)
class Clock:
    """The time and how to wait; tests give their own."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


CLOCK = Clock()


@dataclass(frozen=True)
class RolloutRef:
    """The rollout that a command is about. An empty field matches any value."""

    owner: str = ""
    """The pipeline run that started it."""
    version: str = ""
    started: float = 0.0

    def check(self, name: str, rollout: Rollout) -> None:
        """Check that a service's last rollout is this one.

        Raises:
            InputError: it is another one.
        """
        known = (self.owner or rollout.owner, self.version or rollout.canary.name, self.started or rollout.started)
        if known != (rollout.owner, rollout.canary.name, rollout.started):
            raise InputError(
                f"the last rollout of inferenceservice {name} is that of {rollout.canary.name}, which "
                f"{_owner(rollout)} began, and not the one that is meant: see pigeonhole rollout history"
            )


def start(cluster: Cluster, name: str, uri: str, settings: Settings, clock: Clock = CLOCK, owner: str = "") -> Record:
    """Put a bundle beside the one in service, without traffic.

    A second call for the same bundle continues the rollout.

    Args:
        cluster: where the service is.
        name: the service's name.
        uri: the bundle's address.
        settings: how the canary is judged.
        clock: the time.
        owner: the pipeline run that starts the rollout; no other run may continue it. Empty for a person, who may
            continue any rollout.

    Raises:
        InputError: there is no such service or bundle, another rollout is active, or the cluster refuses.
    """
    version = version_at(uri)
    service, record = read(cluster, name), load(cluster, name)
    if record.active and record.active.canary.name == version.name:
        if owner not in ("", record.active.owner):
            raise InputError(why_busy(name, record.active))
        return reconcile(cluster, name)
    check_bundle(version)
    if version_at(service.uri).name == version.name:
        moved = "" if service.uri == version.uri else f", from {service.uri}; to move it set storageUri"
        raise InputError(f"inferenceservice {name} serves {version.name} already{moved}: there is nothing to roll out")
    return begin(cluster, service, record, version, settings, clock, owner=owner)


def begin(
    cluster: Cluster, service: Service, record: Record, version: ModelVersion, settings: Settings, clock: Clock,
    judged: bool = True, owner: str = "",
) -> Record:  # fmt: skip
    """Begin the rollout of a version whose bundle was checked.

    Raises:
        InputError: a rollout is active already, the service is not ready for one, or the cluster refuses.
    """
    name = service.name
    if record.active:
        raise InputError(why_busy(name, record.active))
    if service.canaries or service.percent is not None:
        raise InputError(
            f"inferenceservice {name} has a canary that no rollout of ours put there: remove spec.canary or "
            "canaryTrafficPercent first"
        )
    if not service.ready:
        raise InputError(f"inferenceservice {name} is not ready, so nothing can be compared with it: fix it first")
    now = clock.now()
    rollout = Rollout(
        version_at(service.uri), version, Phase.PREPARING, now, now, settings, judged, owner=owner,
        stable_revision=str(service.revisions.get("latestRolledoutRevision", "")),
        reasons=() if judged else (BY_HAND,),
    )  # fmt: skip
    if service.standard:
        check_gateway(cluster, service)
        canary = predictor_name(service, cluster.namespace, version)
        rollout = replace(_with_replicas(cluster, service, rollout), canary_predictor=canary)
    try:
        save(cluster, service, record.with_rollout(rollout))
    except Conflict as error:
        raise InputError(
            f"another rollout of inferenceservice {name} began at the same moment: look at its status"
        ) from error
    try:
        return reconcile(cluster, name)
    except InputError as error:
        _undo_failed_start(cluster, name, clock, str(error))
        raise


def _with_replicas(cluster: Cluster, service: Service, rollout: Rollout) -> Rollout:
    """Record the name and replicas of a Standard service, which the rollout changes and restores at its end."""
    stable = "" if has_replaced_stable(rollout, service) else str(service.predictor.get("name") or "")
    found = workload(cluster, deployment_name(service.name, stable))
    return replace(
        rollout, stable_predictor=stable, running=max(service.replicas, found.pods if found else 0),
        min_replicas=service.predictor.get("minReplicas"), max_replicas=service.predictor.get("maxReplicas"),
    )  # fmt: skip


def reconcile(cluster: Cluster, name: str) -> Record:
    """Make the service match its record; a process that was killed after it wrote the record leaves them different."""
    while True:
        # The service is read first. Records are written before services, so this record is at least as new as the
        # service; a patch from an older record would be refused as a conflict.
        service, record = read(cluster, name), load(cluster, name)
        try:
            if record.active and service.standard and not record.active.running:
                # An earlier release started it, and recorded no replicas since it changed none.
                save(cluster, service, record.with_rollout(_with_replicas(cluster, service, record.active)))
                continue
            change = record.active and spec_patch(record.active, service, workloads_of(cluster, service, record.active))
            if not change:
                return record
            patch(cluster, service, change)
        except Conflict:
            continue
        return record


def step(
    cluster: Cluster,
    name: str,
    evidence: Evidence | None,
    clock: Clock,
    ref: RolloutRef = RolloutRef(),
    since: float = 0.0,
) -> Rollout:
    """Take the next step of a rollout, if one is due, and return its state.

    Args:
        cluster: where the service is.
        name: the service's name.
        evidence: what the canary is judged by; without it nothing is judged.
        clock: the time.
        ref: the rollout that is meant.
        since: when this process began to watch. Checks that nobody made before then do not count against the canary.

    Raises:
        InputError: there is no such rollout, or the cluster refuses a change.
        Unavailable: the API server does not answer.
    """
    record = reconcile(cluster, name)
    if record.rollout is None:
        raise InputError(f"inferenceservice {name} has no rollout: begin one with pigeonhole rollout start")
    ref.check(name, record.rollout)
    rollout, service = record.rollout, read(cluster, name)
    following = next_state(rollout, observe(cluster, service, rollout, evidence, clock.now(), since))
    if following == rollout:
        return rollout
    if rollout.phase is Phase.PREPARING and following.phase is Phase.ROLLING_BACK and service.standard:
        try:
            cause = why_not_ready(cluster, service, rollout.predictor_name)
        except InputError as error:  # what may not be looked at is no reason to leave the canary there
            cause = str(error)
        following = replace(following, reasons=(*following.reasons, *([cause] if cause else [])))
    try:
        save(cluster, service, record.with_rollout(following))
    except Conflict:
        return rollout  # another process took the step
    _say_step(rollout, following)
    reconcile(cluster, name)
    return following


def run_to_end(
    cluster: Cluster, name: str, evidence: Evidence | None, clock: Clock = CLOCK, ref: RolloutRef = RolloutRef()
) -> Rollout:
    """Step through a rollout until it ends, and return its last state.

    Raises:
        InputError: there is none, it is not the one that is meant, or the cluster refuses a change.
    """
    since = clock.now()
    while True:
        try:
            rollout = step(cluster, name, evidence, clock, ref, since)
        except Unavailable as error:
            say(f"{error}; asking again")
        else:
            if rollout.ended:
                return rollout
            ref = replace(ref, version=rollout.canary.name, started=rollout.started)
        clock.sleep(_POLL_SECONDS)


def _undo_failed_start(cluster: Cluster, name: str, clock: Clock, reason: str) -> None:
    """End a rollout that the cluster refused. A KServe that drops the canary has raised the replicas all the same."""
    service, record = read(cluster, name), load(cluster, name)
    if record.active:
        undone = rolling_back(record.active, clock.now(), reason)
        with suppress(Conflict):  # another process goes on with it
            record = save(cluster, service, record.with_rollout(undone))
            reconcile(cluster, name)
            save(cluster, service, record.with_rollout(replace(undone, phase=Phase.ROLLED_BACK)))


def why_busy(name: str, rollout: Rollout) -> str:
    """Return the sentence that says which active rollout is in the way."""
    return (
        f"inferenceservice {name} already rolls out {rollout.canary.name} ({rollout.phase}, {rollout.weight}%), which "
        f"{_owner(rollout)} began: judge, promote or roll that back first"
    )


def _owner(rollout: Rollout) -> str:
    return f"pipeline run {rollout.owner}" if rollout.owner else "a person"


def _say_step(before: Rollout, after: Rollout) -> None:
    weight = f" at {after.weight}%" if after.phase is Phase.JUDGING else ""
    said = f": {'; '.join(after.reasons)}" if after.reasons and after.reasons != before.reasons else ""
    say(f"{after.canary.name} {after.phase}{weight}{said}")
