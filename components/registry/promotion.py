"""Which version is the champion, and which the challenger.

MLflow cannot move an alias on a condition, so a late writer could overwrite a newer one. Each promotion is therefore
first noted as a tag of its own, with its time. Notes are only ever added, so two writers lose nothing, and the
champion is the version with the latest note. After it has moved the alias, a writer reads the notes again, and moves it
again if another one came meanwhile: the last to write has seen all of them.

A kill before the alias moved leaves the old champion, and the same call again moves it.
"""

import time
from collections.abc import Callable, Sequence

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.platform.progress import say
from components.registry.versions import (
    CHALLENGER,
    CHAMPION,
    PROMOTED,
    RETIRED,
    ROLLOUT,
    ROLLOUT_REASONS,
    Promotion,
    Version,
    timestamp,
    version_of_bundle,
    versions,
)
from predictor.errors import one_line

_LONGEST_REASONS = 5000
_ROLLED_OUT = "promoted"


def promote(client: MlflowClient, name: str, number: int, at: float, where: str) -> int:
    """Note that a version became the one in service, and move `@champion` to the version that did so last.

    The same call again changes nothing. A version that was retired is in use again.

    Args:
        client: MLflow.
        name: the model.
        number: the version.
        at: when, in Unix seconds.
        where: the service that has it now, or why there is none.

    Returns:
        The champion: another version where that was promoted later.
    """
    client.set_model_version_tag(name, str(number), f"{PROMOTED}{timestamp(at)}", where)
    champion = _settle(client, name, CHAMPION, lambda listed: promotions(listed)[-1].number)
    assert champion is not None
    if any(version.number == number and version.retired for version in versions(client, name)):
        client.delete_model_version_tag(name, str(number), RETIRED)
    return champion


def promote_now(client: MlflowClient, name: str, number: int, where: str) -> int:
    """Promote a version because a person, or a run without a service, says so now.

    It counts as later than all promotions so far, whatever the clocks of their machines said.
    """
    before = promotions(versions(client, name))
    now = max(time.time(), before[-1].seconds + 1.0) if before else time.time()
    return promote(client, name, number, now, where)


def challenge(client: MlflowClient, name: str) -> int | None:
    """Point `@challenger` to the newest version that passed the gate; remove it if that one is retired.

    Returns:
        The challenger.
    """

    def newest(listed: Sequence[Version]) -> int | None:
        passed = next((version for version in listed if version.passed), None)
        return None if passed is None or passed.retired else passed.number

    return _settle(client, name, CHALLENGER, newest)


def conclude_rollout(
    client: MlflowClient, service: str, digest: str, outcome: str, at: float, reasons: Sequence[str]
) -> None:
    """Note on a bundle's version how its rollout ended, and make it the champion if it was promoted.

    Called again for the same end it changes nothing. A canary that was rolled back leaves the champion.

    Args:
        client: MLflow.
        service: the service, as `NAMESPACE/NAME`.
        digest: the first digits of the bundle's digest.
        outcome: `promoted` or `rolled back`.
        at: when, in Unix seconds, by the rollout's record: every call gives the same.
        reasons: why.
    """
    version = version_of_bundle(client, digest)
    if version is None:
        say(f"no model version in MLflow has the bundle {digest}, so @{CHAMPION} stays where it is")
        return
    number = str(version.number)
    if outcome == _ROLLED_OUT:
        champion = promote(client, version.name, version.number, at, f"service {service}")
        later = "" if champion == version.number else f", which was promoted after version {number}"
        say(f"@{CHAMPION} of {version.name} is version {champion}{later}")
    client.set_model_version_tag(version.name, number, ROLLOUT, outcome)
    client.set_model_version_tag(version.name, number, ROLLOUT_REASONS, one_line("; ".join(reasons), _LONGEST_REASONS))


def promotions(listed: Sequence[Version]) -> list[Promotion]:
    """Return the promotions of all versions, earliest first."""
    every = (promotion for version in listed for promotion in version.promotions)
    return sorted(every, key=lambda promotion: (promotion.at, promotion.number))


def _settle(
    client: MlflowClient, name: str, alias: str, choose: Callable[[Sequence[Version]], int | None]
) -> int | None:
    """Move an alias to the version that a rule chooses, until the rule chooses the same after the move as before."""
    while True:
        wanted = choose(versions(client, name))
        if wanted is None:
            client.delete_registered_model_alias(name, alias)
        else:
            _point(client, name, alias, wanted)
        if choose(versions(client, name)) == wanted:
            return wanted


def _point(client: MlflowClient, name: str, alias: str, number: int) -> None:
    try:
        client.set_registered_model_alias(name, alias, str(number))
    except MlflowException:  # two processes that create an alias at the same moment: one of them has to try again
        client.set_registered_model_alias(name, alias, str(number))
