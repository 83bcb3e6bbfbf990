"""A Kubernetes API server in memory, with the controller of Deployments, for what a real one would make slow to test.

It knows get, list, create, replace, merge patch and delete, conflicts of resource versions, and generations.
"""

import itertools
import json
import re
import threading
from collections.abc import Mapping
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from components.platform.kubernetes import Cluster

Object = dict[str, Any]


class MemoryClient(client.ApiClient):  # type: ignore[misc]
    """The server and the connection to it, which threads may share."""

    def __init__(self) -> None:
        super().__init__(client.Configuration(host="http://memory"))
        self.objects: dict[str, Object] = {}
        self._numbers, self._lock = itertools.count(1), threading.Lock()

    def call_api(self, resource_path, method, path_params=None, query_params=None, *args, body=None, **kwargs):  # type: ignore[no-untyped-def]
        path = resource_path.format(**dict(path_params or {}))
        with self._lock:
            found = deepcopy(self._done(method, path, dict(query_params or []), self.sanitize_for_serialization(body)))
        return self.deserialize(SimpleNamespace(data=json.dumps(found)), kwargs["response_type"])

    def _done(self, method: str, path: str, query: Mapping[str, str], body: Object | None) -> Object:
        path, status = re.subn(r"/status$", "", path)
        if method == "POST":
            assert body is not None
            return self._create(f"{path}/{body['metadata']['name']}", body)
        if method == "GET" and path not in self.objects and path.rpartition("/")[2].endswith("s") and _lists(path):
            return {"items": self._listed(path, query.get("labelSelector", ""))}
        if path not in self.objects:
            name = path.rpartition("/")[2]
            raise _error(404, f'"{name}" not found', {"name": name})
        if method == "GET":
            return self.objects[path]
        if method == "DELETE":
            gone = self.objects.pop(path)
            self._deployments()
            return gone
        assert body is not None
        return self._write(path, body, merge=method == "PATCH", status=bool(status))

    def _create(self, path: str, body: Object) -> Object:
        if path in self.objects:
            raise _error(409, "there is one already")
        number = str(next(self._numbers))
        body = {**deepcopy(body), "metadata": {**body["metadata"], "uid": number, "generation": 1}}
        body["metadata"]["resourceVersion"] = number
        self.objects[path] = body
        self._deployments()
        return body

    def _write(self, path: str, body: Object, merge: bool, status: bool) -> Object:
        before = self.objects[path]
        asked = (body.get("metadata") or {}).get("resourceVersion")
        if asked not in (None, before["metadata"]["resourceVersion"]):
            raise _error(409, "the object has been modified")
        part = {"status": body["status"]} if status else {k: v for k, v in body.items() if k != "status"}
        after = _merged(before, part) if merge else {**deepcopy(part), "status": before.get("status")}
        after["metadata"] = {**after["metadata"], "uid": before["metadata"]["uid"]}
        if after == before:
            return before
        after["metadata"]["resourceVersion"] = str(next(self._numbers))
        changed = after.get("spec") != before.get("spec")
        after["metadata"]["generation"] = before["metadata"]["generation"] + changed
        self.objects[path] = after
        self._deployments()
        return after

    def _listed(self, path: str, selector: str) -> list[Object]:
        wanted = dict(part.split("=") for part in selector.split(",") if part)
        return [
            found
            for key, found in self.objects.items()
            if key.rpartition("/")[0] == path and wanted.items() <= (found["metadata"].get("labels") or {}).items()
        ]

    def _deployments(self) -> None:
        for path, found in list(self.objects.items()):
            if "/deployments/" in path:
                self._deployment(path, found)
        for path, pod in list(self.objects.items()):
            if "/pods/" in path and pod["metadata"]["annotations"]["owner"] not in self.objects:
                del self.objects[path]

    def _deployment(self, path: str, found: Object) -> None:
        template, wanted = found["spec"]["template"], found["spec"]["replicas"]
        notes = {"owner": path, "template": json.dumps(template, sort_keys=True)}
        root = path.replace("/apis/apps/v1/", "/api/v1/").rpartition("/deployments/")[0]
        pods = {
            k: p for k, p in self.objects.items() if "/pods/" in k and p["metadata"]["annotations"]["owner"] == path
        }
        for key, pod in reversed(list(pods.items())):  # the newest goes first
            if pod["metadata"]["annotations"] != notes or len(pods) > wanted:
                del self.objects[key], pods[key]
        while len(pods) < wanted:
            number = str(next(self._numbers))
            labels = template["metadata"]["labels"]
            metadata = {"name": f"pod-{number:>09}", "labels": labels, "annotations": notes, "uid": number}
            pod = {
                "metadata": {**metadata, "resourceVersion": number, "generation": 1},
                "spec": deepcopy(template["spec"]),
                "status": {"phase": "Pending"},
            }
            key = f"{root}/pods/{metadata['name']}"
            self.objects[key] = pods[key] = pod
        ready = sum(
            any(c["status"] == "True" for c in (p.get("status") or {}).get("conditions", [])) for p in pods.values()
        )
        enough = "True" if ready >= wanted - wanted // 4 else "False"
        found["status"] = {
            "observedGeneration": found["metadata"]["generation"],
            "replicas": wanted,
            "availableReplicas": ready,
            "conditions": [{"type": "Available", "status": enough}],
        }


def memory_cluster() -> Cluster:
    """An empty cluster."""
    return Cluster(client.CustomObjectsApi(MemoryClient()), "team-a")


def _lists(path: str) -> bool:
    return path.count("/") == (5 if path.startswith("/api/") else 6)


def _merged(before: Object, patch: Object) -> Object:
    after = deepcopy(before)
    for key, value in patch.items():
        if value is None:
            after.pop(key, None)
        else:
            deeper = isinstance(value, Mapping) and isinstance(after.get(key), Mapping)
            after[key] = (
                _merged(after[key], value) if deeper else _merged({}, value) if isinstance(value, dict) else value
            )
    return after


def _error(status: int, message: str, details: Object | None = None) -> ApiException:
    body = json.dumps({"message": message, "details": details or {}})
    return ApiException(http_resp=SimpleNamespace(status=status, reason="", data=body, getheaders=dict))
