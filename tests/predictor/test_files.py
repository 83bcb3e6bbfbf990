"""A file or folder is whole or as it was, whatever ends the writing of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from predictor.files import replace, whole


def test_what_is_written_aside_takes_the_place_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "answer.csv"
    file.write_text("old")
    with whole(file) as aside:
        assert aside.suffix == ".csv"
        assert aside.parent == tmp_path
        aside.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["answer.csv"]


def test_a_new_file_has_the_mode_that_any_file_gets(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with whole(tmp_path / "aside") as aside:
        aside.touch()
    assert (tmp_path / "aside").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("before", ["nothing", "file", "folder"])
def test_a_folder_takes_the_place_of_all_that_is_there(tmp_path: Path, before: str) -> None:
    folder = tmp_path / "bundle"
    if before == "file":
        folder.touch()
    elif before == "folder":
        folder.mkdir()
        (folder / "old").touch()
    with whole(folder) as aside:
        aside.mkdir()
        (aside / "new").touch()
    assert os.listdir(folder) == ["new"]
    assert os.listdir(tmp_path) == ["bundle"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_after_an_error_all_is_as_before(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole(target) as aside:
        if kind == "file":
            aside.write_text("half")
        else:
            (aside / "half").mkdir(parents=True)
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["target"]


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "kept").touch()
    with pytest.raises(IsADirectoryError), whole(folder) as aside:
        aside.write_text("a table")
    assert os.listdir(folder) == ["kept"]
    assert os.listdir(tmp_path) == ["results"]


def test_a_folder_that_cannot_move_in_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
        (folder / folder.name).touch()
    really = os.replace

    def replaced(old: Path, new: Path) -> None:
        if old == source:
            raise OSError("no space left")
        really(old, new)

    monkeypatch.setattr(os, "replace", replaced)
    with pytest.raises(OSError, match="no space left"):
        replace(source, target)
    assert os.listdir(target) == ["target"]
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


def test_a_kill_before_the_end_leaves_the_old_content(tmp_path: Path) -> None:
    file = tmp_path / "answer.csv"
    file.write_text("old")
    program = (
        "import os, pathlib, signal, sys; from predictor.files import whole\n"
        "with whole(pathlib.Path(sys.argv[1])) as aside:\n"
        "    aside.write_text('new')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(file)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert file.read_text() == "old"
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == ["answer.csv"]
