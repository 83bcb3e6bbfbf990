import json
from pathlib import Path

from components.registry.register import register, store
from components.registry.tracking import tracked_step
from predictor.bundle import Bundle


def test_a_bundle_is_stored_whole_under_its_digest(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    uri = store(opened, str(tmp_path / "bundles"))
    assert Path(uri).name == opened.digest[:12]
    assert Bundle.open(Path(uri)).digest == opened.digest
    assert store(opened, str(tmp_path / "bundles")) == uri
    assert [p.name for p in (tmp_path / "bundles").iterdir()] == [opened.digest[:12]]


def test_a_copy_that_was_cut_short_is_replaced(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    torn = tmp_path / "bundles" / opened.digest[:12]
    torn.mkdir(parents=True)
    (torn / "config.json").write_text("{")
    assert Bundle.open(Path(store(opened, str(tmp_path / "bundles")))).digest == opened.digest


def test_an_object_store_gets_the_same_files(bundle: Path) -> None:
    import fsspec

    opened = Bundle.open(bundle)
    uri = store(opened, "memory://models/news")
    assert uri == f"memory:///models/news/{opened.digest[:12]}"
    files = fsspec.filesystem("memory")
    assert {name for name in opened.spec.files if files.exists(f"{uri}/{name}")} == set(opened.spec.files)
    assert json.loads(files.cat(f"{uri}/serving.json")) == json.loads((bundle / "serving.json").read_text())


def test_the_champion_changes_only_when_the_gate_passed(bundle: Path, tmp_path: Path, own_tracking: str) -> None:
    report = tmp_path / "report.html"
    report.write_text("<html></html>")
    for run, passed in (("run-1", True), ("run-2", False)):
        with tracked_step("register", run, own_tracking) as step:
            done = register(step, bundle, report, passed, str(tmp_path / "bundles"), "toy")
    client = step.client
    champion = client.get_model_version_by_alias("toy", "champion")
    challenger = client.get_model_version_by_alias("toy", "challenger")
    assert (str(champion.version), str(challenger.version)) == ("1", "2")
    assert challenger.tags["bundle_uri"] == done.uri and challenger.tags["gate"] == "closed"
    assert challenger.tags["bundle_digest"] == Bundle.open(bundle).digest
    tracked = client.get_run(str(challenger.run_id))
    assert tracked.info.run_id == step.pipeline and tracked.data.tags["bundle_uri"] == done.uri
    assert [file.path for file in client.list_artifacts(tracked.info.run_id)] == ["report.html"]
    assert (tmp_path / "mlartifacts").is_dir()
