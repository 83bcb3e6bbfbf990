from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from pipelines.kubeflow.package import Package, read_package
from pipelines.running.compiling import compile_all, write_manifests
from pipelines.training import training
from predictor.errors import InputError


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    file, *_ = compile_all(tmp_path_factory.mktemp("ir"))
    return read_package(file)


def test_the_name_of_a_version_is_its_content(package: Package, tmp_path: Path) -> None:
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_bytes(package.file.read_bytes())
    other.write_bytes(package.file.read_bytes() + b"# a comment\n")
    assert read_package(same).version == package.version == f"pigeonhole-training-{package.digest[:12]}"
    assert read_package(other).version != package.version


def test_values_get_the_types_of_their_parameters(package: Package) -> None:
    given = ["bundle_root=s3://m/a=b", "seed=7", "min_accuracy=1", 'hyperparameters={"epochs": "2"}', "data="]
    assert package.arguments(given) == {
        "bundle_root": "s3://m/a=b", "seed": 7, "min_accuracy": 1.0, "hyperparameters": {"epochs": "2"}, "data": "",
    }  # fmt: skip
    assert isinstance(package.arguments(given)["min_accuracy"], float)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "needs bundle_root: add --parameter bundle_root=VALUE"),
        (["bundle_root"], "'bundle_root' has no '='"),
        (["bundle_rot=x"], "bundle_rot is not one of .*: choose from .*bundle_root"),
        (["bundle_root=x", "bundle_root=y"], "bundle_root is given twice"),
        (["seed=1.5"], "seed '1.5' is not a whole number"),
        (["min_accuracy=high"], "min_accuracy 'high' is not a number"),
        (["min_accuracy=nan"], "min_accuracy 'nan' is not a number"),
        (["hyperparameters=[1]"], "is not a JSON object"),
        (["hyperparameters={"], "is not a JSON object"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(package: Package, given: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        package.arguments(given)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False)])
def test_booleans_and_lists_are_read(package: Package, text: str, value: bool) -> None:
    parameters = {"flag": {"parameterType": "BOOLEAN"}, "names": {"parameterType": "LIST", "isOptional": True}}
    spec: dict[str, Any] = {"root": {"inputDefinitions": {"parameters": parameters}}}
    small = Package(Path("p.yaml"), "d" * 64, "p", "P", "", (spec,))
    assert small.arguments([f"flag={text}", "names=[1]"]) == {"flag": value, "names": [1]}
    assert small.arguments([f"flag={text}"]) == {"flag": value}
    with pytest.raises(InputError, match="flag 'yes' is not true or false"):
        small.arguments(["flag=yes"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is not YAML"),
        ("", "is not a compiled pipeline"),
        ("- a\n- b\n", "is not a compiled pipeline"),
        ("kind: PipelineVersion\n", "is for kubectl apply: name the file that pigeonhole compile wrote beside it"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        read_package(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_package(tmp_path / "none.yaml")
    with pytest.raises(InputError, match=r"is not a \.yaml file"):
        read_package(tmp_path)


def test_the_kubernetes_objects_hold_the_package_as_kfp_itself_would_write_it(package: Package, tmp_path: Path) -> None:
    (file,) = write_manifests([package.file])
    pipeline, version = yaml.safe_load_all(file.read_text())
    theirs = tmp_path / "theirs.yaml"
    compiler.Compiler().compile(
        training,
        str(theirs),
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=compiler.KubernetesManifestOptions(
            pipeline_name="pigeonhole-training",
            pipeline_display_name="Pigeonhole: train a text classifier",
            pipeline_version_name=package.version,
            pipeline_version_display_name=package.version,
            include_pipeline_manifest=True,
        ),
    )
    their_pipeline, their_version = yaml.safe_load_all(theirs.read_text())
    assert pipeline == their_pipeline
    # Ours is the compiled file to the letter, with its image; kfp's knows nothing of that.
    assert version["spec"].pop("pipelineSpec") == package.documents[0]
    assert version["spec"].pop("description") == f"sha256:{package.digest}"
    their_version["spec"].pop("pipelineSpec")
    their_version["spec"].pop("description")
    assert version == their_version


def test_a_platform_spec_goes_along(package: Package, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    platform = {"platforms": {"kubernetes": {"pipelineConfig": {"resourceTtl": 60}}}}
    file.write_text(yaml.safe_dump_all([package.documents[0], platform]))
    (manifest,) = write_manifests([file])
    assert list(yaml.safe_load_all(manifest.read_text()))[1]["spec"]["platformSpec"] == platform
