"""What decides a rollout's next step: the service, its workloads, the golden texts and the judge's verdict."""

from dataclasses import dataclass, replace

from components.platform.kubernetes import Cluster
from components.rollout.desired_spec import is_applied
from components.rollout.golden import Golden, check_asked, objection
from components.rollout.inference_service import Service
from components.rollout.judging.evidence import NoEvidence, Pods, Prometheus
from components.rollout.restarts import read_pods
from components.rollout.state import Observation, Phase, Rollout
from components.rollout.transitions import whole_intervals
from components.rollout.verdict import Verdict
from components.rollout.workloads import Workloads, read_workloads
from predictor.errors import InputError


@dataclass(frozen=True)
class Evidence:
    """What a canary is judged by."""

    prometheus: Prometheus
    golden: Golden | None = None
    """Texts that both versions are asked before the canary gets any traffic."""


def workloads_of(cluster: Cluster, service: Service, rollout: Rollout) -> Workloads:
    """Return the Deployments and traffic of a Standard service; empty in Knative mode and after the rollout."""
    if not service.standard or rollout.ended:
        return Workloads()
    return read_workloads(cluster, service, rollout.stable_predictor, rollout.predictor_name)


def observe(
    cluster: Cluster, service: Service, rollout: Rollout, evidence: Evidence | None, now: float, since: float
) -> Observation:
    """Read all that the next step depends on, and judge the canary where a check is due.

    Args:
        cluster: where the service is.
        service: the service, as it was just read.
        rollout: its rollout.
        evidence: what the canary is judged by; without it nothing is judged.
        now: Unix seconds.
        since: when this process began to watch, in Unix seconds.

    Raises:
        InputError: the golden texts cannot be asked, or the cluster refuses.
        Unavailable: the API server does not answer.
    """
    observed = Observation(service, now, workloads_of(cluster, service, rollout))
    if evidence is None:
        return observed
    if rollout.phase is Phase.PREPARING and evidence.golden and rollout.judged:
        check_asked(evidence.golden, service)
        if is_applied(rollout, service, observed.workloads):
            return replace(observed, objection=objection(evidence.golden, cluster.namespace, service, rollout))
    done = max(rollout.looked, rollout.checks)  # records of earlier releases have no `looked`
    if rollout.phase is not Phase.JUDGING or not rollout.judged_since or whole_intervals(rollout, now) <= done:
        return observed
    due = rollout.judged_since + (done + 1) * rollout.settings.interval
    try:
        pods = read_pods(cluster, service, rollout, now)
        return replace(observed, verdict=judge_canary(rollout, evidence.prometheus, now, pods))
    except (NoEvidence, InputError) as error:
        # Prometheus may be restarting: this counts against the canary only when the next check is due, too.
        overdue = now >= max(due, since) + rollout.settings.interval
        return replace(observed, missing_evidence=str(error)) if overdue else observed


def judge_canary(rollout: Rollout, prometheus: Prometheus, now: float, pods: Pods) -> Verdict:
    """Return the judge's verdict on a canary so far.

    Raises:
        NoEvidence: Prometheus does not answer, or counted requests of the stable version only.
        InputError: Prometheus refuses the query.
    """
    from components.rollout.judging.judge import judge  # loads scipy, which only this needs

    crashed = judge((), pods=pods)  # needs no metrics: a crash may be why there are none
    if crashed.harm:
        return crashed
    stable, canary = rollout.stable_revision, rollout.canary_revision
    windows = prometheus.windows(stable, canary, rollout.judged_since, now, rollout.settings.interval)
    if windows and windows[-1].stable.served and not windows[-1].canary.served:
        raise NoEvidence(
            f"Prometheus saw requests of {stable} and none of {canary}: look at the pods and the PodMonitor"
        )
    return judge(windows, pods=pods)
