"""A Label Studio on this machine: started from an environment of its own, asked over its API."""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_port

VARIABLE = "PIGEONHOLE_LABEL_STUDIO"
"""Names the program `label-studio`."""
_TOKEN = "0123456789abcdef0123456789abcdef01234567"
# Without these it reports to its makers.
_SILENT = {
    "COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "",
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
}  # fmt: skip
KINDS = {"JSON": "json", "JSON_MIN": "json", "CSV": "csv"}
"""The exports that are read here, with the ending of their files."""


class LabelStudio:
    """One server, seen by its first user."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Token {_TOKEN}"}, timeout=120)

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        answer = self._client.request(method, path, json=body)
        assert answer.is_success, (path, answer.status_code, answer.text[:500])
        return answer

    def annotator(self, name: str) -> int:
        """Add a user, and return its id."""
        user = {"email": f"{name}@example.com", "username": name, "password": "a-long-pass-word"}
        return int(self.ask("POST", "/api/users/", user).json()["id"])

    def project(self, config: str, title: str = "news") -> int:
        return int(self.ask("POST", "/api/projects", {"title": title, "label_config": config}).json()["id"])

    def send(self, project: int, tasks: Sequence[dict[str, Any]]) -> int:
        """Import tasks, and return how many it took."""
        return int(self.ask("POST", f"/api/projects/{project}/import", list(tasks)).json()["task_count"])

    def tasks(self, project: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", f"/api/tasks?project={project}&page_size=5000").json()["tasks"]
        return found

    def answer(self, task: int, user: int, label: str | None, skipped: bool = False) -> None:
        """Let a user answer a task."""
        body = {"result": choice(label), "completed_by": user, "was_cancelled": skipped}
        self.ask("POST", f"/api/tasks/{task}/annotations/", body)

    def export(self, project: int, kind: str, folder: Path) -> Path:
        file = folder / f"{kind}.{KINDS[kind]}"
        path = f"/api/projects/{project}/export?exportType={kind}&download_all_tasks=true"
        file.write_bytes(self.ask("GET", path).content)
        return file


def choice(label: str | None) -> list[dict[str, Any]]:
    """Return the result of an annotation."""
    chosen = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    return [chosen] if label else []


@contextmanager
def running(folder: Path) -> Iterator[LabelStudio]:
    """Start a server with its data in a folder, and end it; skip where there is no program."""
    if not os.environ.get(VARIABLE):
        pytest.skip(f"{VARIABLE} names no label-studio: .ci/run makes an environment with one")
    port = free_port()
    command = [
        os.environ[VARIABLE], "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port),
        "--data-dir", str(folder), "--username", "first@example.com", "--password", "a-long-pass-word",
        "--user-token", _TOKEN,
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **_SILENT}, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 1800  # a minute of computing: the first start makes the database
        while not _healthy(url):
            assert server.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            time.sleep(1)
        yield LabelStudio(url)
    finally:
        server.terminate()
        server.wait(60)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=10).is_success
    except httpx.HTTPError:
        return False
