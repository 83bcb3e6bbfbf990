"""The Spark application: arguments that the job takes, pods that may run, and whom they may talk to."""

from pathlib import PurePosixPath

from components.scoring.spark_job import parser
from predictor import __version__
from tests.fakes.kserve import Object
from tests.manifests.conftest import Render, of_kind
from tests.pod_security import violations


def application(render: Render) -> Object:
    (found,) = of_kind(render("standard+spark"), "SparkApplication")
    return found


def test_the_job_takes_its_arguments(render: Render) -> None:
    spec = application(render)["spec"]
    asked = parser().parse_args(spec["arguments"])
    assert asked.input.startswith("s3://") and asked.out != asked.input and asked.part_rows == 200_000
    assert PurePosixPath(spec["mainApplicationFile"]).name == "spark_job.py"
    assert spec["image"].endswith(f":{__version__}")
    assert spec["restartPolicy"] == {"type": "Never"}  # exit code 1 is a batch that is paused


def test_its_pods_keep_to_the_restricted_standard(render: Render) -> None:
    spec = application(render)["spec"]
    for role in ("driver", "executor"):
        container = {"name": role, "securityContext": spec[role]["securityContext"]}
        assert violations({"securityContext": spec[role]["podSecurityContext"], "containers": [container]}) == []
        assert spec[role]["coreLimit"] == str(spec[role]["cores"])


def test_its_account_is_there_and_may_do_what_a_driver_does(render: Render) -> None:
    objects, name = render("standard+spark"), application(render)["spec"]["driver"]["serviceAccount"]
    assert name in [each["metadata"]["name"] for each in of_kind(objects, "ServiceAccount")]
    (role,) = [each for each in of_kind(objects, "Role") if each["metadata"]["name"] == name]
    (binding,) = [each for each in of_kind(objects, "RoleBinding") if each["metadata"]["name"] == name]
    assert {"pods", "services", "configmaps"} <= set(role["rules"][0]["resources"])
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "pigeonhole"}]


def test_executors_reach_their_driver_and_nobody_else_does(render: Render) -> None:
    (policy,) = [
        each["spec"]
        for each in of_kind(render("standard+spark"), "NetworkPolicy")
        if each["metadata"]["name"] == "spark-to-spark"
    ]
    (ingress,), (egress,) = policy["ingress"], policy["egress"]
    assert ingress["from"] == egress["to"] == [{"podSelector": policy["podSelector"]}]
    assert policy["podSelector"]["matchExpressions"][0]["values"] == ["driver", "executor"]
