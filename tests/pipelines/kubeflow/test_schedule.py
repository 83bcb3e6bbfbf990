"""Recurring runs: one of a name, whatever was there before and whoever comes along meanwhile."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pipelines.kubeflow.client import Kubeflow, Login, connect
from pipelines.kubeflow.schedule import Schedule, ScheduleStatus, delete, pause, put
from pipelines.kubeflow.submission import Version
from predictor.errors import InputError
from tests.fakes.kubeflow_api import FakeKubeflow, refusal, serving

NIGHTLY = Schedule("nightly", "0 0 3 * * *", "training-0123", {"bundle_root": "s3://m", "seed": 1}, "pigeonhole", "")
VERSION = Version("pipeline-0", "pipeline_version-0", "training-0123", uploaded=False)


@pytest.fixture
def fake() -> Iterator[FakeKubeflow]:
    with serving(FakeKubeflow()) as kubeflow:
        yield kubeflow


@pytest.fixture
def kubeflow(fake: FakeKubeflow) -> Kubeflow:
    return connect(Login(fake.address))


def test_a_schedule_says_what_when_and_as_whom(fake: FakeKubeflow, kubeflow: Kubeflow) -> None:
    made = put(kubeflow, replace(NIGHTLY, service_account="steps"), VERSION)
    (run,) = fake.recurring
    assert made == ScheduleStatus(run["recurring_run_id"], "created", False)
    assert run["display_name"] == "nightly" and run["service_account"] == "steps"
    assert run["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert run["runtime_config"]["parameters"] == {"bundle_root": "s3://m", "seed": 1}
    reference = {"pipeline_id": "pipeline-0", "pipeline_version_id": "pipeline_version-0"}
    assert run["pipeline_version_reference"] == reference
    assert run["no_catchup"] and run["max_concurrency"] == "1" and run["mode"] == "ENABLE"


def test_the_same_call_twice_leaves_one(fake: FakeKubeflow, kubeflow: Kubeflow) -> None:
    first, second = (put(kubeflow, NIGHTLY, VERSION) for _ in range(2))
    assert second == replace(first, change="unchanged")
    assert len(fake.recurring) == 1 == fake.count("POST", "/recurringruns")


@pytest.mark.parametrize(
    "changed",
    [
        {"cron": "0 0 4 * * *"},
        {"version": "training-4567"},
        {"arguments": {"bundle_root": "s3://m", "seed": 2}},
        {"experiment": "other"},
        {"service_account": "steps"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_changed_one_takes_the_others_place(fake: FakeKubeflow, kubeflow: Kubeflow, changed: dict[str, Any]) -> None:
    other = put(kubeflow, replace(NIGHTLY, name="weekly"), VERSION)
    first = put(kubeflow, NIGHTLY, VERSION)
    second = put(kubeflow, replace(NIGHTLY, **changed), VERSION)
    assert second.change == "replaced" and second.recurring_run_id != first.recurring_run_id
    standing = {run["recurring_run_id"] for run in fake.recurring}
    assert standing == {second.recurring_run_id, other.recurring_run_id}


def test_the_new_one_is_there_before_the_old_one_goes(fake: FakeKubeflow, kubeflow: Kubeflow) -> None:
    put(kubeflow, NIGHTLY, VERSION)
    fake.instead["POST", "/recurringruns"] = [refusal(400, "no")]
    with pytest.raises(InputError, match="refuses to set the schedule nightly"):
        put(kubeflow, replace(NIGHTLY, cron="@daily"), VERSION)
    assert [run["trigger"]["cron_schedule"]["cron"] for run in fake.recurring] == ["0 0 3 * * *"]


def test_what_a_killed_call_left_is_gone_after_the_next(fake: FakeKubeflow, kubeflow: Kubeflow) -> None:
    put(kubeflow, NIGHTLY, VERSION)
    changed = replace(NIGHTLY, cron="@daily")
    fake.instead["DELETE", "/recurringruns/{recurring_run_id}"] = [refusal(503, "not now")]
    with pytest.raises(Exception, match="not now"):
        put(kubeflow, changed, VERSION)
    assert len(fake.recurring) == 2
    assert put(kubeflow, changed, VERSION).change == "unchanged"
    assert [run["trigger"]["cron_schedule"]["cron"] for run in fake.recurring] == ["@daily"]


def test_two_that_set_it_at_once_leave_one(fake: FakeKubeflow, kubeflow: Kubeflow) -> None:
    first = put(kubeflow, NIGHTLY, VERSION)
    fake.instead["GET", "/recurringruns"] = [(200, {})]  # as the second sees it before the first is done
    second = put(kubeflow, NIGHTLY, VERSION)
    (left,) = fake.recurring
    assert left["recurring_run_id"] == second.recurring_run_id != first.recurring_run_id


def test_a_pause_outlives_a_change(fake: FakeKubeflow, kubeflow: Kubeflow) -> None:
    put(kubeflow, NIGHTLY, VERSION)
    assert pause(kubeflow, "nightly", paused=True).change == "paused"
    assert put(kubeflow, NIGHTLY, VERSION).paused
    assert put(kubeflow, replace(NIGHTLY, cron="@daily"), VERSION).paused
    assert [run["mode"] for run in fake.recurring] == ["DISABLE"]
    assert pause(kubeflow, "nightly", paused=False).change == "resumed"
    assert [run["mode"] for run in fake.recurring] == ["ENABLE"]
    assert not put(kubeflow, replace(NIGHTLY, cron="@hourly"), VERSION).paused


def test_a_schedule_is_deleted_and_its_neighbours_stay(fake: FakeKubeflow, kubeflow: Kubeflow) -> None:
    put(kubeflow, replace(NIGHTLY, name="weekly"), VERSION)
    put(kubeflow, NIGHTLY, VERSION)
    assert delete(kubeflow, "nightly").change == "deleted"
    assert [run["display_name"] for run in fake.recurring] == ["weekly"]


def test_all_of_a_name_are_found_however_many_pages_there_are(fake: FakeKubeflow, kubeflow: Kubeflow) -> None:
    for _ in range(3):
        fake.instead["GET", "/recurringruns"] = [(200, {}), (200, {})]
        put(kubeflow, NIGHTLY, VERSION)
    assert len(fake.recurring) == 3
    fake.page_size = 1
    assert put(kubeflow, NIGHTLY, VERSION).change == "unchanged"
    assert len(fake.recurring) == 1


def test_namespaces_have_schedules_of_their_own(fake: FakeKubeflow) -> None:
    fake.multi_user = True
    for namespace in ("team-a", "team-b"):
        assert put(connect(Login(fake.address, namespace)), NIGHTLY, VERSION).change == "created"
    delete(connect(Login(fake.address, "team-a")), "nightly")
    assert [run["namespace"] for run in fake.recurring] == ["team-b"]


@pytest.mark.parametrize("act", [delete, lambda kubeflow, name: pause(kubeflow, name, paused=True)])
def test_a_schedule_that_is_not_there_is_refused(kubeflow: Kubeflow, act) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="there is no schedule nightly in namespace kubeflow: set it with --cron"):
        act(kubeflow, "nightly")


@pytest.mark.parametrize("cron", ["0 3 * * *", "* * * *", "0 0 3 * * * *", ""])
def test_a_cron_of_another_length_is_refused(cron: str) -> None:
    with pytest.raises(InputError, match=r"has \d fields, and Kubeflow's begin with the second: write six"):
        replace(NIGHTLY, cron=cron)
