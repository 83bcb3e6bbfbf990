import errno
import json
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from mlflow.tracking import MlflowClient

from components.platform.storage import download
from components.platform.tracking import check_tracking, tracked_step
from components.registry.promotion import promote
from components.registry.register import register, store
from components.registry.versions import versions
from predictor.errors import InputError
from predictor.model.bundle import Bundle
from tests.components.registry.registered import aliases
from tests.fakes.storage import object_storage


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
    opened = Bundle.open(bundle)
    uri = store(opened, "memory://models/news")
    assert uri == f"memory:///models/news/{opened.digest[:12]}"
    files = fsspec.filesystem("memory")
    assert {name for name in opened.spec.files if files.exists(f"{uri}/{name}")} == set(opened.spec.files)
    assert json.loads(files.cat(f"{uri}/serving.json")) == json.loads((bundle / "serving.json").read_text())


@pytest.fixture(params=["memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "s3":
        with object_storage(monkeypatch) as bucket:
            yield bucket
    else:
        yield f"memory://{tmp_path.name}"


@pytest.mark.parametrize("at", ["model.safetensors", "serving.json"])
def test_a_bundle_that_was_uploaded_in_part_is_not_taken_for_whole(
    bundle: Path, storage: str, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Bundle.open(bundle)
    files, root = fsspec.core.url_to_fs(f"{storage}/models")

    def cut_off(source: str, target: str, **options: Any) -> None:
        """A file that is closed by an exception, as s3fs.core.S3File publishes it and fsspec's put_file leaves it."""
        if at not in source:
            put_file(source, target, **options)
            return
        with files.open(target, "wb") as stream:
            stream.write(Path(source).read_bytes()[:100])
            raise SystemExit(143)

    put_file = files.put_file
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(files, "put_file", cut_off)
        store(opened, f"{storage}/models")
    files.invalidate_cache()
    assert not files.exists(f"{root}/{opened.digest[:12]}/serving.json")
    uri = store(opened, f"{storage}/models")
    assert Bundle.open(download(uri, tmp_path / "fetched")).digest == opened.digest
    assert files.ls(root, detail=False) == [f"{root}/{opened.digest[:12]}"]

    files.pipe_file(f"{root}/{opened.digest[:12]}/config.json", b"{}")  # changed, or damaged, after it was whole
    assert Bundle.open(download(store(opened, f"{storage}/models"), tmp_path / "again")).digest == opened.digest


def test_a_place_for_bundles_that_cannot_be_written_is_one_sentence(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bundles").write_text("a file where the folder has to be")
    with pytest.raises(InputError, match=r"bundles/\w+ cannot be written \(.*\): make room there"):
        store(Bundle.open(bundle), str(tmp_path / "bundles"))
    with pytest.raises(InputError, match=r"gcs://models cannot be reached \(ImportError"):
        store(Bundle.open(bundle), "gcs://models")


def test_a_full_disk_is_told(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(InputError, match=r"cannot be written \(.*No space left on device\): make room there"):
        store(Bundle.open(bundle), str(tmp_path / "bundles"))
    assert list((tmp_path / "bundles").iterdir()) == []


def test_two_first_registrations_make_one_model_of_two_versions(
    bundle: Path, tmp_path: Path, own_tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.html"
    report.write_text("<html></html>")
    check_tracking("toy", own_tracking)  # makes the tables
    both, create = threading.Barrier(2), MlflowClient.create_registered_model

    def together(client: MlflowClient, *arguments: Any, **options: Any) -> Any:
        both.wait(timeout=120)  # neither has made it
        return create(client, *arguments, **options)

    def registered(run: str) -> str:
        with tracked_step("register", run, own_tracking, system_metrics=False) as step:
            return register(step, bundle, report, True, str(tmp_path / "bundles"), "toy").version

    monkeypatch.setattr(MlflowClient, "create_registered_model", together)
    with ThreadPoolExecutor(2) as pool:
        versions = [future.result() for future in [pool.submit(registered, run) for run in ("one", "two")]]
    assert sorted(versions) == ["1", "2"]
    assert aliases(MlflowClient(own_tracking)) == {"challenger": 2}


def test_a_version_that_passed_is_the_challenger_and_one_that_did_not_is_nothing(
    bundle: Path, tmp_path: Path, own_tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.html"
    report.write_text("<html></html>")
    monkeypatch.setenv("PIGEONHOLE_GIT_COMMIT", "c0ffee")
    for run, passed in (("run-1", True), ("run-2", False)):
        with tracked_step("register", run, own_tracking) as step:
            done = register(step, bundle, report, passed, str(tmp_path / "bundles"), "toy", ["one reason", "another"])
        if passed:
            promote(step.client, "toy", 1, 10.0, "service team-a/news")
    client, opened = step.client, Bundle.open(bundle)
    assert aliases(client) == {"champion": 1, "challenger": 1} and done.version == "2"
    refused, first = versions(client, "toy")
    assert dict(refused.tags) == {
        "bundle_uri": done.uri, "bundle_digest": opened.digest, "data_digest": opened.spec.data_digest,
        "precision": opened.spec.precision, "gate": "closed", "gate_reasons": "one reason\nanother",
        "accuracy": str(opened.spec.metrics["test_accuracy"]), "git_commit": "c0ffee", "parent_version": "1",
    }  # fmt: skip
    assert (first.tags["gate"], first.tags["parent_version"]) == ("passed", "none")
    tracked = client.get_run(refused.run_id)
    assert tracked.info.run_id == step.pipeline and tracked.data.tags["bundle_uri"] == done.uri
    assert [file.path for file in client.list_artifacts(tracked.info.run_id)] == ["report.html"]
    assert (tmp_path / "mlartifacts").is_dir()


def test_a_step_that_was_killed_after_it_made_the_version_finds_it_again(
    bundle: Path, tmp_path: Path, own_tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.html"
    report.write_text("<html></html>")
    monkeypatch.setattr("components.platform.tracking.__file__", "/proc/tracking.py")  # no checkout, and no image
    monkeypatch.delenv("PIGEONHOLE_GIT_COMMIT", raising=False)

    def killed(*_: Any) -> None:
        raise SystemExit(143)

    def registered() -> str:
        with tracked_step("register", "one", own_tracking, system_metrics=False) as step:
            return register(step, bundle, report, True, str(tmp_path / "bundles"), "toy").version

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("components.registry.register.challenge", killed)
        registered()
    assert registered() == "1"
    client = MlflowClient(own_tracking)
    (version,) = versions(client, "toy")
    assert aliases(client) == {"challenger": 1} and version.tags["git_commit"] == "unknown"
