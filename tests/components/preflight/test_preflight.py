"""What is refused before anything takes long."""

from pathlib import Path
from typing import Any

import pytest

from components.preflight.check import Plan, check
from predictor.errors import InputError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"profile": "slow"}, "--profile slow is unknown"),
        ({"min_accuracy": 90.0}, "min_accuracy is 90: give a share of 1"),
        ({"min_accuracy": float("nan")}, "min_accuracy is nan"),
        ({"max_length": 4}, "max_length is 4: give a number of tokens from 8 to 512"),
        ({"hyperparameters": {"epochs": 0}}, "hyper-parameter epochs is 0"),
        ({"backbone": "/none"}, "--backbone /none is not a folder"),
        ({"num_nodes": 0, "checkpoint_root": "s3://b/c"}, "num_nodes is 0: give the number of machines, at least 1"),
        ({"num_nodes": 2, "checkpoint_root": "/somewhere"}, "'/somewhere' is no place that machines share"),
        ({"experiment": "kind: Job"}, "experiment"),
        ({"service": "News_1", "prometheus": "http://p"}, "service 'News_1' is no name of an InferenceService"),
        ({"service": "news"}, "prometheus '' is no address"),
        ({"service": "news", "prometheus": "http://p", "rollout": {"speed": 1.0}}, "no rollout setting speed"),
        ({"checks": {"max_reject": 0.1}}, "there is no check max_reject"),
        ({"split": {"by": "time"}}, "by=time and column='' do not fit"),
        ({"answer": {"verb": "models"}}, "answer is wrong .*the verb 'models' is a path of KServe's protocol"),
        ({"answer": {"verb": "Rate"}}, r"answer\.verb is wrong"),
        ({"bundle_root": "gcs://models"}, r"gcs://models cannot be written \(ImportError.*gcsfs"),
        ({"bundle_root": "/proc/none"}, "/proc/none cannot be written"),
        ({"checkpoint_root": "/proc/none"}, "/proc/none cannot be written"),
    ],
)
def test_what_a_later_step_would_refuse_is_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check(Plan(**{"name": "news", "bundle_root": str(tmp_path), **given}))
    assert "\n" not in str(caught.value)


def test_mlflow_is_asked_whether_it_takes_the_name(own_tracking: str, tmp_path: Path) -> None:
    check(Plan("news", str(tmp_path / "bundles"), own_tracking, checkpoint_root="memory://checkpoints"))
    assert list((tmp_path / "bundles").iterdir()) == []
    for name in ("team/news", "a:b", " "):
        with pytest.raises(InputError, match=f"MLflow takes no model by the name '{name}'"):
            check(Plan(name, str(tmp_path / "bundles"), own_tracking))


def test_mlflow_that_is_away_is_told(own_tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=r"MLflow at http://127.0.0.1:9 cannot be used"):
        check(Plan("news", str(tmp_path), "http://127.0.0.1:9"))
