"""Conducting a rollout: read, take the next step, write what is conditional on what was read, and again."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from components.cluster import Cluster
from components.progress import say
from components.rollout.evidence import NoEvidence, Prometheus
from components.rollout.golden import Golden, objection
from components.rollout.inference_service import (
    Away,
    Conflict,
    Service,
    available,
    check_gateway,
    patch,
    read,
    why_not_ready,
)
from components.rollout.judge import Verdict, judge
from components.rollout.record import Record, load, save
from components.rollout.rollout import Phase, Rollout, Seen, Settings, Version, advance, applied, back, wanted
from components.rollout.versions import check_bundle, version_at
from predictor.errors import InputError

# A canary gets ready within minutes, and KServe moves weights within seconds.
_LOOK_SECONDS = 5.0
_UNDOING = (Phase.ROLLING_BACK, Phase.RESTORING)
_BY_HAND = "rolled back by hand"


@dataclass(frozen=True)
class Evidence:
    """Where a judge looks."""

    prometheus: Prometheus
    golden: Golden | None = None
    """Texts that both versions are asked before the canary gets any traffic."""


@dataclass(frozen=True)
class Clock:
    """Time, so that tests need not wait."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


def start(cluster: Cluster, name: str, uri: str, settings: Settings, clock: Clock = Clock()) -> Record:
    """Put a bundle beside the one in service, without traffic.

    Asked again for the same bundle, it goes on where it was.

    Raises:
        InputError: there is no such service or bundle, another rollout goes on, or the cluster refuses.
    """
    version = version_at(uri)
    service, record = read(cluster, name), load(cluster, name)
    if record.active and record.active.canary == version:
        return settle(cluster, name)
    check_bundle(version)
    if service.uri == uri:
        raise InputError(f"inferenceservice {name} serves {version.name} already: there is nothing to roll out")
    return _begin(cluster, service, record, version, settings, clock)


def _begin(
    cluster: Cluster, service: Service, record: Record, version: Version, settings: Settings, clock: Clock,
    judged: bool = True,
) -> Record:  # fmt: skip
    name = service.name
    if record.active:
        raise InputError(_busy(name, record.active))
    if service.canaries or service.percent is not None:
        raise InputError(
            f"inferenceservice {name} has a canary that no rollout of ours put there: remove spec.canary or "
            "canaryTrafficPercent first"
        )
    if not service.ready:
        raise InputError(f"inferenceservice {name} is not ready, so nothing can be compared with it: mend it first")
    if service.standard:
        check_gateway(cluster, service)
    now = clock.now()
    revision = str(service.revisions.get("latestRolledoutRevision", ""))
    rollout = Rollout(
        version_at(service.uri), version, Phase.PREPARING, now, now, settings, judged, stable_revision=revision,
        reasons=() if judged else (_BY_HAND,),
    )  # fmt: skip
    try:
        save(cluster, service, record.with_rollout(rollout))
    except Conflict as error:
        raise InputError(
            f"another rollout of inferenceservice {name} began at the same moment: look at its status"
        ) from error
    try:
        return settle(cluster, name)
    except InputError as error:  # the service is as it was, so nothing has to be undone but the note
        _forget(cluster, name, clock, str(error))
        raise


def settle(cluster: Cluster, name: str) -> Record:
    """Make the service what its record wants, which it is not after a kill between the two writes."""
    while True:
        # The service first: a record is written before the service it wants, so what is read after the service is at
        # least as new, and a patch by an older record would conflict.
        service, record = read(cluster, name), load(cluster, name)
        change = record.rollout and wanted(record.rollout, service)
        if not change:
            return record
        try:
            patch(cluster, service, change)
        except Conflict:
            continue
        return record


def turn(cluster: Cluster, name: str, evidence: Evidence | None, clock: Clock) -> Rollout:
    """Take the next step of a rollout, if it is time for one, and return where it stands.

    Args:
        cluster: where.
        name: the service.
        evidence: where to look; without it nothing is judged.
        clock: the time.

    Raises:
        InputError: there is no rollout, or the cluster refuses.
        Away: the API server does not answer.
    """
    record = settle(cluster, name)
    if record.rollout is None:
        raise InputError(f"inferenceservice {name} has no rollout: begin one with pigeonhole rollout start")
    rollout, service = record.rollout, read(cluster, name)
    following = advance(rollout, _seen(cluster, service, rollout, evidence, clock.now()))
    if following == rollout:
        return rollout
    if rollout.phase is Phase.PREPARING and following.phase is Phase.ROLLING_BACK and service.standard:
        told = why_not_ready(cluster, service, rollout.predictor_name)
        following = replace(following, reasons=(*following.reasons, *([told] if told else [])))
    try:
        save(cluster, service, record.with_rollout(following))
    except Conflict:
        return rollout  # another process took the step
    _tell(rollout, following)
    settle(cluster, name)
    return following


def conduct(cluster: Cluster, name: str, evidence: Evidence | None, clock: Clock = Clock()) -> Rollout:
    """Take a rollout to its end, and return it.

    Raises:
        InputError: there is none, or the cluster refuses.
    """
    while True:
        try:
            rollout = turn(cluster, name, evidence, clock)
        except Away as error:
            say(f"{error}; asking again")
        else:
            if rollout.ended:
                return rollout
        clock.sleep(_LOOK_SECONDS)


def promote(cluster: Cluster, name: str, clock: Clock = Clock()) -> Rollout:
    """Give the canary all traffic without more checks, and return the end of its rollout.

    Raises:
        InputError: none goes on, or the canary was never ready.
    """
    service, record = read(cluster, name), load(cluster, name)
    rollout = record.active
    if rollout is None:
        raise InputError(f"inferenceservice {name} has no rollout under way: begin one with pigeonhole rollout start")
    if rollout.phase is Phase.PREPARING and not applied(rollout, service):
        raise InputError(f"the canary {rollout.canary.name} of {name} is not ready: promote it when it is")
    if rollout.phase in (Phase.PREPARING, Phase.JUDGING):
        decided = replace(rollout, phase=Phase.FILLING, since=clock.now(), reasons=("promoted by hand",))
        try:
            save(cluster, service, record.with_rollout(decided))
        except Conflict:
            return promote(cluster, name, clock)
    return conduct(cluster, name, None, clock)


def roll_back(cluster: Cluster, name: str, to: str = "", clock: Clock = Clock()) -> Rollout:
    """Take a canary back, or where none is there return to an earlier version, and return the end of it.

    Args:
        cluster: where.
        name: the service.
        to: the version; empty for the one that was in service before.
        clock: the time.

    Raises:
        InputError: there is no such version, or its bundle is gone.
    """
    service, record = read(cluster, name), load(cluster, name)
    if record.active and record.active.phase is Phase.PROMOTING:
        conduct(cluster, name, None, clock)
        service, record = read(cluster, name), load(cluster, name)
    going = record.active
    if going and to and to != going.stable.name:
        raise InputError(_busy(name, going))
    if going:
        decided = going if going.phase in _UNDOING else back(going, clock.now(), _BY_HAND)
    else:
        version = _earlier(record, service, to)
        check_bundle(version)
        if service.standard or to or service.percent is not None:
            _begin(cluster, service, record, version, Settings(), clock, judged=False)
            return conduct(cluster, name, None, clock)
        # Knative keeps the revision before this one, so traffic goes there first and the spec follows.
        now = clock.now()
        decided = Rollout(version, version_at(service.uri), Phase.ROLLING_BACK, now, now, reasons=(_BY_HAND,))
    try:
        save(cluster, service, record.with_rollout(decided))
    except Conflict:
        return roll_back(cluster, name, to, clock)
    return conduct(cluster, name, None, clock)


def close(cluster: Cluster, name: str, clock: Clock = Clock()) -> Rollout | None:
    """Leave no half rollout: finish one that was decided, take back one that was not, and return the last one's end."""
    record = settle(cluster, name)
    if record.active and record.active.phase is not Phase.PROMOTING:
        return roll_back(cluster, name, clock=clock)
    return conduct(cluster, name, None, clock) if record.active else record.rollout


def _earlier(record: Record, service: Service, to: str) -> Version:
    served = [e.version for e in record.history if e.outcome in (Phase.PROMOTED, "found")]
    known = {e.version.name: e.version for e in record.history}
    others = [version for version in served if version.uri != service.uri]
    if to and to not in known:
        raise InputError(f"{to} is no version of {service.name}: choose one of {', '.join(known) or 'none so far'}")
    if to and known[to].uri == service.uri:
        raise InputError(f"inferenceservice {service.name} serves {to} already: there is nothing to roll back")
    if not to and not others:
        raise InputError(f"inferenceservice {service.name} never served another version: there is nothing to return to")
    return known[to] if to else others[-1]


def _seen(cluster: Cluster, service: Service, rollout: Rollout, evidence: Evidence | None, now: float) -> Seen:
    if rollout.phase is Phase.FILLING and service.standard:
        return Seen(service, now, pods=available(cluster, service, rollout.predictor_name))
    if evidence is None:
        return Seen(service, now)
    if rollout.phase is Phase.PREPARING and evidence.golden and rollout.judged and applied(rollout, service):
        return Seen(service, now, objection=objection(evidence.golden, cluster.namespace, service, rollout))
    interval = rollout.settings.interval
    due = rollout.judged_since + (rollout.checks + 1) * interval
    if rollout.phase is not Phase.JUDGING or not rollout.judged_since or now < due:
        return Seen(service, now)
    try:
        return Seen(service, now, verdict=looked(rollout, evidence.prometheus, now))
    except (NoEvidence, InputError) as error:
        # Prometheus may be restarting. Nothing is said against the canary by that, until the next check is due.
        return Seen(service, now, blind=str(error)) if now >= due + interval else Seen(service, now)


def looked(rollout: Rollout, prometheus: Prometheus, now: float) -> Verdict:
    """Return what the evidence says of a canary so far.

    Raises:
        NoEvidence: Prometheus is away, or only the stable version has traffic.
        InputError: it does not understand what is asked.
    """
    stable, canary = rollout.stable_revision, rollout.canary_revision
    windows = prometheus.windows(stable, canary, rollout.judged_since, now, rollout.settings.interval)
    if windows and windows[-1].stable.served and not windows[-1].canary.served:
        raise NoEvidence(
            f"Prometheus saw requests of {stable} and none of {canary}: look at the pods and the PodMonitor"
        )
    return judge(windows)


def _forget(cluster: Cluster, name: str, clock: Clock, reason: str) -> None:
    service, record = read(cluster, name), load(cluster, name)
    if record.active:
        ended = replace(record.active, phase=Phase.ROLLED_BACK, since=clock.now(), reasons=(reason,))
        save(cluster, service, record.with_rollout(ended))


def _busy(name: str, rollout: Rollout) -> str:
    return (
        f"inferenceservice {name} already rolls out {rollout.canary.name} ({rollout.phase}, {rollout.weight}%): judge, "
        "promote or roll that back first"
    )


def _tell(before: Rollout, after: Rollout) -> None:
    weight = f" at {after.weight}%" if after.phase is Phase.JUDGING else ""
    said = f": {'; '.join(after.reasons)}" if after.reasons and after.reasons != before.reasons else ""
    say(f"{after.canary.name} {after.phase}{weight}{said}")
