"""What a command says whose extra is not installed."""

import sys
from importlib import metadata

import pytest

from pipelines.cli.base.extras import missing_extra_named
from predictor.errors import InputError

REQUIREMENTS = [
    "typer<1,>=0.16",
    *(f'{package}; extra == "serve"' for package in ("grpcio-health-checking<1.82,>=1.73", "numpy<3,>=2")),
    *(f'{package}; extra == "client"' for package in ("numpy<3,>=2", "pandas<3,>=2.3")),
    *(f'{package}; extra == "rollout"' for package in ("kubernetes<31,>=30", "numpy<3,>=2")),
    *(f'{package}; extra == "train"' for package in ("kubernetes<31,>=30", "mlflow<3.18", "numpy<3,>=2", "PyYAML>=6")),
]


@pytest.fixture(autouse=True)
def requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment may have been installed before the extras became what they are."""
    monkeypatch.setattr(metadata, "requires", {"pigeonhole": REQUIREMENTS}.get)


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("numpy", ["pigeonhole", "run", "--out", "out"], "train"),
        ("pandas", ["pigeonhole", "predict", "a text"], "client"),
        ("grpc_health", ["pigeonhole", "serve", "bundle"], "serve"),
        ("kubernetes.client", ["kubectl-pigeonhole", "status", "news"], "rollout"),
        ("yaml", ["pigeonhole", "tune"], "train"),
        ("mlflow", ["pigeonhole", "rollout", "judge"], "train"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    module: str, arguments: list[str], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    with (
        pytest.raises(InputError, match=rf"^{module} is not .*pip install 'pigeonhole\[{extra}\]'$"),
        missing_extra_named(),
    ):
        raise ModuleNotFoundError(name=module)


def test_a_module_that_no_extra_brings_is_a_bug() -> None:
    with pytest.raises(ModuleNotFoundError), missing_extra_named():
        raise ModuleNotFoundError(name="predictor.nowhere")
