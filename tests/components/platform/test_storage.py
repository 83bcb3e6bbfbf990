"""Storage that several runs use at the same moment."""

import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from components.platform.storage import check_writable, names_under, read_text, upload, write_text


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "place") if request.param == "local" else f"memory://{tmp_path.name}"


def test_two_runs_may_check_one_place(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _ = fsspec.core.url_to_fs(place)
    remove = files.rm_file

    def other_comes_first(path: str) -> None:
        monkeypatch.undo()
        check_writable(place)
        remove(path)

    monkeypatch.setattr(files, "rm_file", other_comes_first)
    check_writable(place)
    assert names_under(place) == set()


@pytest.mark.parametrize("whole_folder", [False, True])
def test_two_runs_may_write_the_same(
    place: str, tmp_path: Path, whole_folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "last").write_text("text")

    def write() -> None:
        upload(folder, place, "last") if whole_folder else write_text(f"{place}/last", "text")

    def other_comes_first(move: Any) -> Any:
        def moved(*arguments: Any) -> None:
            monkeypatch.undo()
            write()
            move(*arguments)

        return moved

    monkeypatch.setattr(os, "replace", other_comes_first(os.replace))
    monkeypatch.setattr(MemoryFileSystem, "cp_file", other_comes_first(MemoryFileSystem.cp_file))
    write()
    assert read_text(f"{place}/last") == "text" and names_under(place) == {"last"}
