import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from predictor.bundle import Bundle, seal
from predictor.errors import InputError


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def test_digest_depends_on_content_not_on_place(bundle: Path, copy: Path) -> None:
    assert Bundle.open(copy).digest == Bundle.open(bundle).digest


def test_every_file_is_covered(bundle: Path) -> None:
    listed = set(Bundle.open(bundle).spec.files)
    there = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert listed == there - {"serving.json"}
    assert {"model.safetensors", "onnx/model.onnx", "onnx/model_int8.onnx", "tokenizer.json", "README.md"} <= listed


def test_sealing_again_gives_the_same_digest_and_another_file_another(copy: Path) -> None:
    first = Bundle.open(copy)
    assert seal(copy, first.spec).digest == first.digest
    (copy / "notes.txt").write_text("more")
    assert seal(copy, first.spec).digest != first.digest


def test_files_can_be_read_by_another_user(bundle: Path) -> None:
    assert all(part.stat().st_mode & 0o044 == 0o044 for part in (bundle, *bundle.rglob("*")))


def _no_spec(folder: Path) -> None:
    (folder / "serving.json").unlink()


def _no_model(folder: Path) -> None:
    (folder / "onnx/model.onnx").unlink()


def _tampered(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def _not_json(folder: Path) -> None:
    (folder / "serving.json").write_text("{")


def _newer(folder: Path) -> None:
    spec = json.loads((folder / "serving.json").read_text())
    (folder / "serving.json").write_text(json.dumps({**spec, "schema_version": 99}))


def _one_label(folder: Path) -> None:
    spec = json.loads((folder / "serving.json").read_text())
    (folder / "serving.json").write_text(json.dumps({**spec, "labels": ["only"]}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_spec, "has no serving.json"),
        (_no_model, r"lacks onnx/model\.onnx"),
        (_tampered, r"tokenizer\.json was changed"),
        (_not_json, "cannot be read"),
        (_newer, "schema version 99"),
        (_one_label, "cannot be read at labels"),
    ],
)
def test_a_damaged_bundle_is_refused_with_the_reason(copy: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy)
    with pytest.raises(InputError, match=message):
        Bundle.open(copy)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        Bundle.open(tmp_path / "none")
