"""Where parts are put: what is asked of object storage, and of drivers that have folders."""

from typing import Any

import pytest

from predictor.errors import InputError
from predictor.serving.prediction_log.store import Store
from tests.fakes.storage import object_storage


def test_object_storage_is_asked_for_no_more_than_to_take_the_part(monkeypatch: pytest.MonkeyPatch) -> None:
    with object_storage(monkeypatch) as bucket:
        store = Store(f"{bucket}/log")

        def denied(*_: Any, **__: Any) -> None:
            raise PermissionError("credentials may put objects, and nothing else")

        for name in ("makedirs", "exists", "ls", "info"):
            monkeypatch.setattr(store._files, name, denied)
        store.put(f"{store.root}/m/part", b"data")
        assert store._files.cat_file(f"{store.root}/m/part") == b"data"


def test_a_driver_that_has_folders_gets_the_one_of_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("memory://log")
    really_put = store._files.pipe_file

    def put(path: str, data: bytes) -> None:
        if not store._files.isdir(path.rpartition("/")[0]):
            raise FileNotFoundError(path)
        really_put(path, data)

    monkeypatch.setattr(store._files, "pipe_file", put)
    store.put(f"{store.root}/m/date=2026-11-29/part", b"data")
    assert store._files.cat_file(f"{store.root}/m/date=2026-11-29/part") == b"data"


def test_a_uri_without_a_driver_is_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match=r"--log-url nowhere://x cannot be used .*: give a folder, or a URI"):
        Store("nowhere://x")
