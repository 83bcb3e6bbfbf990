"""The champion is the version that was promoted last, whoever writes last, and whoever is killed."""

import itertools
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from components.registry.promotion import challenge, conclude_rollout, promote, promote_now
from components.registry.retire import retire
from components.registry.versions import Version, version_named, versions
from tests.components.registry.registered import add, aliases, digest
from tests.conftest import ROOT

BACKENDS = ["tracking", pytest.param("server", marks=pytest.mark.slow(reason="starts an mlflow server"))]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The address of MLflow: a database, or a server."""
    return str(request.getfixturevalue(request.param))


def test_the_latest_promotion_wins_in_whatever_order_they_are_told(client: MlflowClient) -> None:
    for number, order in enumerate(itertools.permutations([(1, 10.0), (2, 20.0), (1, 30.0)])):
        name = f"toy{number}"
        assert [add(client, name), add(client, name)] == [1, 2]
        for version, at in order:
            promote(client, name, version, at, "service a/news")
        assert aliases(client, name) == {"champion": 1}, order


def test_an_older_promotion_that_writes_late_does_not_stay(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = add(client), add(client)
    point, waiting = MlflowClient.set_registered_model_alias, [True]

    def late(self: MlflowClient, name: str, alias: str, version: str) -> Any:
        """It has read that its version is the champion; meanwhile the newer promotion comes and goes."""
        if waiting.pop() if waiting else False:
            assert promote(client, "toy", new, 20.0, "service a/news") == new
        return point(self, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", late)
    assert promote(client, "toy", old, 10.0, "service a/news") == new
    assert aliases(client)["champion"] == new


def test_a_promotion_that_is_told_twice_is_one(client: MlflowClient) -> None:
    add(client)
    for _ in range(2):
        promote(client, "toy", 1, 10.0, "service a/news")
    (version,) = versions(client, "toy")
    assert [(p.at, p.where) for p in version.promotions] == [("1970-01-01T00:00:10.000000Z", "service a/news")]


def test_a_person_promotes_after_a_clock_that_was_ahead(client: MlflowClient) -> None:
    ahead, mine = add(client), add(client)
    promote(client, "toy", ahead, 4e9, "service a/news")
    assert promote_now(client, "toy", mine, "by hand") == mine


# Each fork is killed before one of its writes, or after the database got one and before it committed it.
_KILLED = """
import os, signal, sys
from mlflow import MlflowClient
from sqlalchemy import event
from sqlalchemy.orm import Session
from components.registry.promotion import promote

uri, kind, *names = sys.argv[1:]
client = MlflowClient(uri)
if uri.startswith("sqlite"):
    client.get_registered_model(names[0])  # what takes long once
    client._get_registry_client().store.engine.dispose()  # no connection may be used on both sides of a fork

def mortal(left):
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left.pop()

def promoted(name, left):
    if kind == "commit":
        event.listen(Session, "after_flush", lambda session, context: mortal(left))
    else:
        for write in ("set_model_version_tag", "set_registered_model_alias", "delete_model_version_tag"):
            def wrapped(self, *given, original=getattr(MlflowClient, write)):
                mortal(left)
                return original(self, *given)
            setattr(MlflowClient, write, wrapped)
    promote(client, name, 2, 20.0, "service a/news")

for number, name in enumerate(names):
    if not os.fork():
        promoted(name, [True] * number)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def _killed(uri: str, kind: str, names: list[str]) -> list[int]:
    command = [sys.executable, "-W", "ignore", "-c", _KILLED, uri, kind, *names]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    return [int(line) for line in done.stdout.split()]


@pytest.mark.slow(reason="kills a process at each write, each of which opens MLflow anew")
def test_a_killed_promotion_leaves_the_old_champion_or_the_new_one(backend: str) -> None:
    client = MlflowClient(backend)
    for kind in ("write", "commit") if backend.startswith("sqlite") else ("write",):
        names = [f"{kind}{number}" for number in range(4)]
        for name in names:
            assert [add(client, name), add(client, name, retired="for a third write")] == [1, 2]
            promote(client, name, 1, 10.0, "service a/news")
        assert _killed(backend, kind, names) == [-9, -9, -9, 0]
        assert [aliases(client, name) for name in names] == [{"champion": number} for number in (1, 1, 2, 2)]
        for name in names:  # the same call again finishes it
            assert promote(client, name, 2, 20.0, "service a/news") == 2 == aliases(client, name)["champion"]
            assert not version_named(client, name, "2").retired


def test_many_promotions_at_once_leave_the_latest_and_always_a_champion(backend: str) -> None:
    client, over, seen = MlflowClient(backend), threading.Event(), set()
    for _ in range(4):
        add(client)
    promote(client, "toy", 1, 1.0, "service a/news")

    def watch() -> None:
        own = MlflowClient(backend)
        while not over.is_set():
            seen.add(own.get_registered_model("toy").aliases.get("champion"))

    def work(worker: int) -> None:
        own = MlflowClient(backend)
        for at in range(4):
            promote(own, "toy", 1 + (worker + at) % 4, 10.0 * at + worker, "service a/news")

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work, worker) for worker in range(3)]:
            done.result()
    over.set()
    watcher.join()
    assert aliases(client)["champion"] == 1 + (2 + 3) % 4
    assert None not in seen and {str(version) for version in seen} <= set("1234")


def test_the_challenger_is_the_newest_version_that_passed(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client)
    assert challenge(client, "toy") == 1
    add(client, gate="closed")
    assert challenge(client, "toy") == 1
    point, waiting = MlflowClient.set_registered_model_alias, [True]

    def late(self: MlflowClient, name: str, alias: str, version: str) -> Any:
        if waiting.pop() if waiting else False:
            add(client)
            assert challenge(client, "toy") == 4
        return point(self, name, alias, version)

    add(client)
    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", late)
    assert challenge(client, "toy") == 4 and aliases(client) == {"challenger": 4}


def _tags(client: MlflowClient, number: int) -> dict[str, str]:
    return dict(version_named(client, "toy", str(number)).tags)


def test_a_rollout_moves_the_champion_only_when_it_promoted(
    client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (f"s3://models/toy/{letter}" for letter in "ab")
    add(client, uri=a)
    add(client, uri=b)
    conclude_rollout(client, "team-a/news", digest(a)[:12], "promoted", 10.0, ["no harm"])
    assert aliases(client) == {"champion": 1} and _tags(client, 1)["rollout"] == "promoted"
    for _ in range(2):
        conclude_rollout(client, "team-a/news", digest(b)[:12], "rolled back", 20.0, ["p99 doubled", "errors"])
    assert aliases(client) == {"champion": 1}
    assert (_tags(client, 2)["rollout"], _tags(client, 2)["rollout_reasons"]) == ("rolled back", "p99 doubled; errors")
    conclude_rollout(client, "team-a/news", digest(b)[:12], "promoted", 30.0, [])
    assert aliases(client) == {"champion": 2}
    conclude_rollout(client, "team-a/news", digest(a)[:12], "promoted", 40.0, ["rolled back by hand"])  # a return
    assert aliases(client) == {"champion": 1}
    for unknown in ("0" * 12, "' OR name = 'toy"):
        conclude_rollout(client, "team-a/news", unknown, "promoted", 50.0, [])
        assert f"has the bundle {unknown}, so @champion stays" in capsys.readouterr().out
    assert aliases(client) == {"champion": 1}


def test_a_retired_version_that_is_rolled_out_is_in_use_again(client: MlflowClient) -> None:
    add(client)
    retire(client, version_named(client, "toy", "1"))
    promote(client, "toy", 1, 10.0, "service a/news")
    found: Version = version_named(client, "toy", "@champion")
    assert found.number == 1 and not found.retired
