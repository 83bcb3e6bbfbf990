import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from predictor.errors import InputError
from predictor.model.bundle import Bundle, seal
from predictor.model.engine import load_engine


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


def test_a_bundle_from_before_the_plain_interface_has_the_usual_names(copy: Path) -> None:
    spec = json.loads((copy / "serving.json").read_text())
    del spec["answer"]
    (copy / "serving.json").write_text(json.dumps(spec))
    found = Bundle.open(copy).spec.answer
    assert (found.verb, found.field, found.score) == ("classify", "category", "category_score")


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


def _older(folder: Path) -> None:
    spec = json.loads((folder / "serving.json").read_text())
    (folder / "serving.json").write_text(json.dumps({"schema_version": 1, "task": spec["task"]}))


def _lists(folder: Path, name: str, content: bytes) -> None:
    spec = json.loads((folder / "serving.json").read_text())
    spec["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "serving.json").write_text(json.dumps(spec))


def _climbing(folder: Path) -> None:
    (folder.parent / "secret").write_text("more")
    _lists(folder, "../secret", b"more")


def _absolute(folder: Path) -> None:
    (folder.parent / "secret").write_text("more")
    _lists(folder, str(folder.parent / "secret"), b"more")


def _link_outside(folder: Path) -> None:
    _moved(folder / "config.json", folder.parent / "elsewhere.json")


def _folder_link_outside(folder: Path) -> None:
    _moved(folder / "onnx", folder.parent / "onnx")


def _broken_link(folder: Path) -> None:
    (folder / "vocab.txt").symlink_to("nowhere")


def _folder_for_a_file(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def _unlisted(folder: Path) -> None:
    (folder / "added_tokens.json").write_text("{}")


def _unlisted_below(folder: Path) -> None:
    (folder / "onnx/model.onnx.data").write_text("{}")


def _moved(part: Path, target: Path) -> None:
    part.rename(target)
    part.symlink_to(target)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_older, "has schema version 1, this predictor reads 2: .*train again"),
        (_climbing, r"lacks \.\./secret"),
        (_absolute, "lacks /"),
        (_link_outside, r"config\.json is a link that leads out"),
        (_folder_link_outside, "onnx is a link that leads out"),
        (_broken_link, r"vocab\.txt is a link that leads out"),
        (_folder_for_a_file, r"lacks config\.json"),
        (_unlisted, r"has added_tokens\.json, which serving\.json does not list"),
        (_unlisted_below, r"has onnx/model\.onnx\.data, which"),
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


def test_what_storage_and_mounts_add_is_no_part_of_a_bundle(bundle: Path, copy: Path) -> None:
    (copy / "lost+found").mkdir()
    (copy / ".DS_Store").write_text("x")
    (copy / "onnx/.nfs01").write_text("x")
    (copy / "onnx/again").symlink_to("..")
    _moved(copy / "config.json", copy / ".part")
    assert Bundle.open(copy).digest == Bundle.open(bundle).digest
    assert seal(copy, Bundle.open(copy).spec).digest == Bundle.open(bundle).digest


def test_a_mounted_configmap_and_a_linked_folder_are_bundles(bundle: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "models"
    shutil.copytree(bundle, mounted / "..2026")
    (mounted / "..data").symlink_to("..2026")
    for part in bundle.iterdir():
        (mounted / part.name).symlink_to(f"..data/{part.name}")
    (tmp_path / "link").symlink_to(mounted)
    assert Bundle.open(tmp_path / "link").digest == Bundle.open(bundle).digest
    (mounted / "..2026/onnx/more.onnx").write_text("x")
    with pytest.raises(InputError, match=r"onnx/more\.onnx, which"):
        Bundle.open(tmp_path / "link")


def test_a_precision_that_the_bundle_lacks_is_refused(copy: Path) -> None:
    spec = Bundle.open(copy).spec
    (copy / "onnx/model.onnx").unlink()
    with pytest.raises(InputError, match=r"has no onnx/model\.onnx: choose a precision that it has"):
        load_engine(seal(copy, spec), "fp32")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        Bundle.open(tmp_path / "none")
