"""What is said of a version, and of the difference of two."""

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from components.registry.promotion import promote
from components.registry.summary import details, difference, row
from components.registry.versions import only_model, version_named, versions
from predictor.errors import InputError
from tests.components.registry.registered import add, bundle


def with_run(client: MlflowClient, uri: str, rate: str, accuracy: float, **tags: str) -> int:
    """Register a version with a run that has a parameter and a metric."""
    run = client.create_run("0").info.run_id
    client.log_param(run, "learning_rate", rate)
    client.log_metric(run, "best_validation_accuracy", accuracy)
    client.log_metric(run, "system/cpu", accuracy)
    return add(client, uri=uri, run=run, **tags)


def test_a_difference_names_what_changed_and_nothing_else(client: MlflowClient, tmp_path: Path) -> None:
    labels = [f"label {number}" for number in range(50)]
    one = bundle(
        tmp_path, {"config.json": "{}", "old": "1", "weights": "1"}, labels=labels, precision="int8", max_length=64,
        metrics={"test_accuracy": 0.90, "test_macro_f1": 0.8}, reference={"shares": [1]}, cascade={"threshold": 0.5},
    )  # fmt: skip
    two = bundle(
        tmp_path, {"config.json": "{}", "new": "1", "weights": "2"}, labels=[*labels, "more"], precision="fp32",
        max_length=64, metrics={"test_accuracy": 0.92, "test_macro_f1": 0.8}, reference={"shares": [2]}, cascade=None,
    )  # fmt: skip
    with_run(client, one, "1e-4", 0.91, data_digest="aaa", git_commit="c0ffee")
    with_run(client, two, "2e-4", 0.93, data_digest="bbb", git_commit="c0ffee")
    after, before = versions(client, "toy")
    found = difference(client, before, after)
    assert found["version"] == [{"name": "data_digest", "from": "aaa", "to": "bbb"}]
    assert found["hyperparameters"] == [{"name": "learning_rate", "from": "1e-4", "to": "2e-4"}]
    changes = {each["name"]: (each["from"], each["to"], round(each["change"], 9)) for each in found["metrics"]}
    assert changes == {"test_accuracy": (0.90, 0.92, 0.02), "best_validation_accuracy": (0.91, 0.93, 0.02)}
    serving = {each["name"]: (each["from"], each["to"]) for each in found["serving"]}
    assert {*serving} == {"labels", "precision", "cascade.threshold"}
    assert serving["labels"][0].startswith("50 entries, SHA-256 ") and serving["labels"][0] != serving["labels"][1]
    assert serving["precision"] == ("int8", "fp32") and serving["cascade.threshold"] == (0.5, None)
    files = [("new", "added"), ("old", "removed"), ("weights", "changed")]
    assert [(each["file"], each["change"]) for each in found["files"]] == files
    assert found["notes"] == [] and not found["same_bundle"]
    same = difference(client, after, after)
    assert same["same_bundle"] and not any(same[part] for part in ("version", "metrics", "serving", "files", "notes"))


def test_a_bundle_that_is_gone_or_spoilt_is_a_note(client: MlflowClient, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    (spoilt / "serving.json").write_text("[")
    for uri in (str(tmp_path / "gone"), str(spoilt), ""):
        add(client, uri=uri)
    three, two, one = versions(client, "toy")
    found = difference(client, one, two)
    assert "there is no bundle at" in found["notes"][0] and "version 2: Expecting value" in found["notes"][1]
    assert found["serving"] == found["files"] == []
    assert difference(client, three, three)["notes"] == ["version 3: there is no bundle at its address any more"] * 2


def test_a_version_is_shown_with_its_verdicts(client: MlflowClient) -> None:
    add(client, uri="s3://models/toy/a", accuracy="0.93", gate_reasons="accuracy 93% is enough\nno class is silent")
    promote(client, "toy", 1, 10.0, "service team-a/news")
    add(client, gate="closed")  # of an earlier release: no accuracy, no parent
    bare, full = versions(client, "toy")
    assert row(bare)["accuracy"] is None and row(bare)["gate"] == "closed" and row(bare)["aliases"] == []
    shown = details(client, full)
    assert (shown["accuracy"], shown["aliases"], shown["bundle"]) == (0.93, ["champion"], "s3://models/toy/a")
    assert shown["gate_reasons"] == ["accuracy 93% is enough", "no class is silent"]
    assert shown["promotions"] == [{"at": "1970-01-01T00:00:10.000000Z", "where": "service team-a/news"}]
    assert shown["parameters"] == shown["metrics"] == {} and shown["created"].endswith("+00:00")


def test_a_version_is_named_by_number_alias_or_digest(client: MlflowClient) -> None:
    with pytest.raises(InputError, match="MLflow has no registered model"):
        only_model(client)
    add(client, uri="s3://a")
    add(client, uri="s3://b")
    client.set_registered_model_alias("toy", "champion", "1")
    found = versions(client, "toy")[1]
    for name in ("1", "champion", "@champion", found.digest[:12], found.digest):
        assert version_named(client, only_model(client), name).number == 1
    for name in ("3", "@challenger", found.digest[:5], "0" * 12, "1 OR 1"):
        with pytest.raises(InputError, match=r"model toy has no version .*the newest is 2"):
            version_named(client, "toy", name)
    with pytest.raises(InputError, match="MLflow has no model other: give --name, one of toy"):
        versions(client, "other")
    add(client, "second")
    with pytest.raises(InputError, match=r"several models .second, toy.: name one of them"):
        only_model(client)
