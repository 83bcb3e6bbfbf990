"""The component that turns the prediction log on."""

from typing import Any

import pytest

from pipelines.cli.app import app
from predictor.serving.prediction_log.log import END_SECONDS
from predictor.serving.server import GRACE_SECONDS
from tests.fakes.kserve import Object
from tests.manifests.conftest import OVERLAYS, Render, of_kind


def _container(objects: list[Object]) -> dict[str, Any]:
    (runtime,) = of_kind(objects, "ClusterServingRuntime")
    (container,) = runtime["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_log_is_off_without_the_component_and_its_variables_are_those_of_serve(render: Render, name: str) -> None:
    import typer

    serve: Any = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    options = {str(option.envvar): option for option in serve.params if option.envvar}
    assert "env" not in _container(render(name))
    container = _container(render(f"{name}+prediction-log"))
    given = {variable["name"]: variable["value"] for variable in container["env"]}
    assert given.keys() == {variable for variable in options if variable.startswith("PIGEONHOLE_LOG_")}
    words = [word for variable, value in given.items() for word in (options[variable].opts[0], value)]
    serve.make_context("serve", ["bundle", *words])  # takes the values
    *_, credentials = container["envFrom"]
    assert credentials == {"secretRef": {"name": "pigeonhole-log", "optional": True}}


@pytest.mark.parametrize("name", ["standard", "production"])
def test_pods_have_time_to_store_the_log_after_the_last_answer(render: Render, name: str) -> None:
    for service in of_kind(render(name), "InferenceService"):
        # The preStop sleep, the accepted requests, their slow readers, the log.
        needed = 10 + 2 * GRACE_SECONDS + END_SECONDS
        assert service["spec"]["predictor"]["terminationGracePeriodSeconds"] >= needed
