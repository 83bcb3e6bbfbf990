"""A picture of each dashboard, drawn by a real Grafana from what the running parts count."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.browser import CHROMIUM
from tests.manifests.monitoring.rules import MONITORING
from tests.manifests.monitoring.stack import Stack, program
from tests.manifests.monitoring.test_dashboards import DASHBOARDS
from tests.ports import free_port

_HOME = Path(os.environ.get("GF_PATHS_HOME", "/usr/share/grafana"))


@pytest.fixture(scope="module")
def pictures(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a PNG of each dashboard."""
    grafana, browser = shutil.which("grafana"), CHROMIUM
    if not (grafana and browser and _HOME.is_dir()):
        pytest.skip("no grafana or no chromium is installed: nothing draws the dashboards")
    folder, port = tmp_path_factory.mktemp("grafana"), free_port()
    source = {"name": "Prometheus", "uid": "prometheus", "type": "prometheus", "url": stack.prometheus}
    provider = {"name": "files", "type": "file", "options": {"path": str(MONITORING / "dashboards")}}
    for name, value in (
        ("datasources", {"apiVersion": 1, "datasources": [{**source, "access": "proxy", "isDefault": True}]}),
        ("dashboards", {"apiVersion": 1, "providers": [provider]}),
    ):
        (folder / "provisioning" / name).mkdir(parents=True)
        (folder / "provisioning" / name / "own.yaml").write_text(yaml.safe_dump(value))
    settings = {
        "GF_PATHS_DATA": str(folder / "data"), "GF_PATHS_PROVISIONING": str(folder / "provisioning"),
        "GF_SERVER_HTTP_ADDR": "127.0.0.1", "GF_SERVER_HTTP_PORT": str(port), "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false", "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    }  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    command = [grafana, "server", f"--homepath={_HOME}"]
    with program(*command, ready=f"{address}/api/health", environment={**os.environ, **settings}):
        for board in DASHBOARDS.values():
            subprocess.run(
                [
                    browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1600,1800",
                    "--virtual-time-budget=30000", f"--screenshot={folder}/{board['uid']}.png",
                    f"{address}/d/{board['uid']}?kiosk&from=now-15m&to=now",
                ],
                check=True, capture_output=True,
            )  # fmt: skip
    return folder


@pytest.mark.parametrize("board", DASHBOARDS.values(), ids=list(DASHBOARDS))
def test_grafana_draws_a_dashboard(pictures: Path, board: dict[str, str]) -> None:
    picture = (pictures / f"{board['uid']}.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 30_000  # an empty page has a few thousand bytes
