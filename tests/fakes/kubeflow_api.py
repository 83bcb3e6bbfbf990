"""A stand-in for Kubeflow Pipelines' API server: real HTTP, held to the routes and models of kfp's generated client."""

import inspect
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
import yaml

Body = dict[str, Any]

_API = "/apis/v2beta1"
LOGIN_PAGE = b"<!doctype html><title>Log in</title>"
# What a test may have the server do instead of answering, or after it did what was asked.
DROP, DROP_AFTERWARDS, HTML = "drop", "drop afterwards", "html"


def _contract() -> dict[tuple[str, str], str]:
    """Return, for each method and path of the generated client, the name of what comes back."""
    operation = re.compile(r"'(/apis/v2beta1/[^']*)', '([A-Z]+)',.*?response_type='(\w+)'", re.DOTALL)
    found = {}
    for name, service in inspect.getmembers(kfp_server_api.api, inspect.isclass):
        if name.endswith("Api"):
            for path, method, answer in operation.findall(inspect.getsource(service)):
                found[method, path] = answer
    return found


CONTRACT = _contract()


def conforms(model: str, value: Any, where: str = "body") -> None:
    """Fail unless a JSON value is what the generated model says: known fields, right types, known enum values."""
    plain: dict[str, Any] = {
        "str": str,
        "int": int,
        "bool": bool,
        "float": (int, float),
        "object": object,
        "datetime": str,
    }
    if nested := re.fullmatch(r"list\[(.+)\]", model):
        assert isinstance(value, list), where
        for number, item in enumerate(value):
            conforms(nested[1], item, f"{where}[{number}]")
    elif nested := re.fullmatch(r"dict\(str, (.+)\)", model):
        assert isinstance(value, dict), where
        for key, item in value.items():
            conforms(nested[1], item, f"{where}.{key}")
    elif model in plain:
        # int64 is text in protobuf's JSON, and numbers are taken, too; kfp sends max_concurrency as one.
        assert isinstance(value, plain[model]) or (model == "str" and type(value) is int), f"{where} is {value!r}"
        if model == "datetime":
            datetime.fromisoformat(str(value))
    else:
        kind = getattr(kfp_server_api.models, model)
        if not kind.openapi_types:
            assert value in kind.allowable_values, f"{where} is {value!r}"
            return
        types = {kind.attribute_map[name]: of for name, of in kind.openapi_types.items()}
        assert isinstance(value, dict) and set(value) <= set(types), f"{where} has {sorted(set(value) - set(types))}"
        for key, item in value.items():
            conforms(types[key], item, f"{where}.{key}")


def refusal(status: int, message: str) -> tuple[int, Body]:
    """An error as the services word it."""
    return status, {"code": status // 100, "message": message, "details": []}


@dataclass
class FakeKubeflow:
    """What the server holds, what it will do, and what it has seen."""

    multi_user: bool = False
    authorization: str = ""
    """What authorization and cookie have to say; empty for whatever they do."""
    states: list[Any] = field(default_factory=lambda: ["SUCCEEDED"])
    """Given out one a look at a run, the last one for ever; a number is an HTTP error; or DROP, or HTML."""
    instead: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    """By method and path: what comes instead of the next answers."""
    page_size: int = 100
    on_look: Callable[[], object] = lambda: None
    tasks: list[Body] = field(default_factory=list)
    pipelines: list[Body] = field(default_factory=list)
    versions: list[Body] = field(default_factory=list)
    experiments: list[Body] = field(default_factory=list)
    runs: list[Body] = field(default_factory=list)
    recurring: list[Body] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Method and path template of each request."""
    complaints: list[str] = field(default_factory=list)
    """Where a request or an answer broke the contract."""
    address: str = ""

    def count(self, method: str, template: str) -> int:
        return self.seen.count((method, _API + template))

    def _new(self, kind: str, number: int, body: Body) -> Body:
        # One second apart, as the database has it.
        created = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC) + timedelta(seconds=number)
        return {**body, f"{kind}_id": f"{kind}-{number}", "created_at": created.isoformat().replace("+00:00", "Z")}

    # One method for each operation: arguments are path parameters, query, and body; it returns the status and the body.

    def healthz(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        return 200, {"multi_user": self.multi_user}

    def pipeline_by_name(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        found = [p for p in self.pipelines if p["name"] == path["name"] and p["namespace"] == self._namespace(query)]
        return (200, found[0]) if found else refusal(404, f"Pipeline {path['name']} not found")

    def create_pipeline(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        body["namespace"] = self._namespace(body)
        if any((p["name"], p["namespace"]) == (body["name"], body["namespace"]) for p in self.pipelines):
            return refusal(409, f"The name {body['name']} already exists")
        self.pipelines.append(self._new("pipeline", len(self.pipelines), body))
        return 200, self.pipelines[-1]

    def list_versions(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        mine = [version for version in self.versions if version["pipeline_id"] == path["pipeline_id"]]
        return 200, self._page("pipeline_versions", mine, query)

    def upload_version(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        if any(v["name"] == query["name"] and v["pipeline_id"] == query["pipelineid"] for v in self.versions):
            return 409, {"error_message": "Failed to create a pipeline version", "error_details": ""}
        documents = list(yaml.safe_load_all(body))
        version = {
            "pipeline_id": query["pipelineid"], "name": query["name"], "display_name": query["name"],
            "description": query["description"], "pipeline_spec": documents[0],
        }  # fmt: skip
        self.versions.append(self._new("pipeline_version", len(self.versions), version))
        return 200, self.versions[-1]

    def list_experiments(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        mine = [each for each in self.experiments if each["namespace"] == self._namespace(query)]
        return 200, self._page("experiments", mine, query)

    def create_experiment(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        body["namespace"] = self._namespace(body)
        if any(
            (e["display_name"], e["namespace"]) == (body["display_name"], body["namespace"]) for e in self.experiments
        ):
            return refusal(409, "already exists")
        self.experiments.append(self._new("experiment", len(self.experiments), body))
        return 200, self.experiments[-1]

    def create_run(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        self.runs.append(self._new("run", len(self.runs), {**body, "state": "PENDING"}))
        return 200, self.runs[-1]

    def list_runs(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        mine = [run for run in self.runs if run["experiment_id"] == query["experiment_id"]]
        return 200, self._page("runs", mine, query)

    def get_run(self, path: Body, query: Body, body: Any) -> Any:
        self.on_look()
        found = [run for run in self.runs if run["run_id"] == path["run_id"]]
        if not found:
            return refusal(404, f"Run {path['run_id']} not found")
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state in (DROP, HTML):
            return state
        if isinstance(state, int):
            return refusal(state, "not now")
        found[0]["state"] = state
        if state == "FAILED":
            found[0]["error"] = {"code": 2, "message": "a step failed"}
            found[0]["run_details"] = {"task_details": self.tasks}
        return 200, found[0]

    def terminate_run(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        if all(run["run_id"] != path["run_id"] for run in self.runs):
            return refusal(404, f"Run {path['run_id']} not found")
        self.states = ["CANCELING", "CANCELED"]
        return 200, {}

    def list_recurring(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        mine = [run for run in self.recurring if run["namespace"] == self._namespace(query)]
        return 200, self._page("recurringRuns", mine, query)

    def create_recurring(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        (experiment,) = [each for each in self.experiments if each["experiment_id"] == body["experiment_id"]]
        body |= {"namespace": experiment["namespace"], "status": body["mode"] + "D", "max_concurrency": "1"}
        self.recurring.append(self._new("recurring_run", len(self.seen), body))
        return 200, self.recurring[-1]

    def delete_recurring(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        (run,) = [run for run in self.recurring if run["recurring_run_id"] == path["recurring_run_id"]]
        self.recurring.remove(run)
        return 200, {}

    def enable_recurring(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        return self._switch(path, "ENABLE")

    def disable_recurring(self, path: Body, query: Body, body: Any) -> tuple[int, Body]:
        return self._switch(path, "DISABLE")

    def _switch(self, path: Body, mode: str) -> tuple[int, Body]:
        (run,) = [run for run in self.recurring if run["recurring_run_id"] == path["recurring_run_id"]]
        run |= {"mode": mode, "status": mode + "D"}
        return 200, {}

    def _namespace(self, fields: Mapping[str, Any]) -> str:
        """A server for one user heeds no namespace."""
        return str(fields.get("namespace", "")) if self.multi_user else ""

    def _page(self, key: str, found: list[Body], query: Body) -> Body:
        if "filter" in query:
            (predicate,) = json.loads(query["filter"])["predicates"]
            assert predicate["operation"] in ("EQUALS", 1)
            found = [each for each in found if each[predicate["key"]] == predicate["stringValue"]]
        start = int(query.get("page_token") or 0)
        page: Body = {key: found[start : start + self.page_size], "total_size": len(found)}
        if start + self.page_size < len(found):
            page["next_page_token"] = str(start + self.page_size)
        return page


ROUTES: dict[tuple[str, str], tuple[Callable[..., Any], str]] = {
    ("GET", "/healthz"): (FakeKubeflow.healthz, ""),
    ("GET", "/pipelines/names/{name}"): (FakeKubeflow.pipeline_by_name, ""),
    ("POST", "/pipelines"): (FakeKubeflow.create_pipeline, "V2beta1Pipeline"),
    ("POST", "/pipelines/upload_version"): (FakeKubeflow.upload_version, ""),
    ("GET", "/pipelines/{pipeline_id}/versions"): (FakeKubeflow.list_versions, ""),
    ("GET", "/experiments"): (FakeKubeflow.list_experiments, ""),
    ("POST", "/experiments"): (FakeKubeflow.create_experiment, "V2beta1Experiment"),
    ("POST", "/runs"): (FakeKubeflow.create_run, "V2beta1Run"),
    ("GET", "/runs"): (FakeKubeflow.list_runs, ""),
    ("GET", "/runs/{run_id}"): (FakeKubeflow.get_run, ""),
    ("POST", "/runs/{run_id}:terminate"): (FakeKubeflow.terminate_run, ""),
    ("GET", "/recurringruns"): (FakeKubeflow.list_recurring, ""),
    ("POST", "/recurringruns"): (FakeKubeflow.create_recurring, "V2beta1RecurringRun"),
    ("DELETE", "/recurringruns/{recurring_run_id}"): (FakeKubeflow.delete_recurring, ""),
    ("POST", "/recurringruns/{recurring_run_id}:enable"): (FakeKubeflow.enable_recurring, ""),
    ("POST", "/recurringruns/{recurring_run_id}:disable"): (FakeKubeflow.disable_recurring, ""),
}


class _Handler(BaseHTTPRequestHandler):
    kubeflow: FakeKubeflow
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        for (method, template), (operation, model) in ROUTES.items():
            pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]+)", _API + template)
            if method == self.command and (match := re.fullmatch(pattern, parts.path)):
                self.kubeflow.seen.append((method, _API + template))
                self._operate(operation, model, (method, template), match.groupdict(), query, content)
                return
        self.kubeflow.complaints.append(f"{self.command} {self.path} is not served")
        self._answer(404, b"404 page not found\n", "text/plain")

    def _operate(
        self, operation: Callable[..., Any], model: str, route: tuple[str, str], path: Body, query: Body, content: bytes
    ) -> None:
        kubeflow = self.kubeflow
        sent = "; ".join(self.headers[name] for name in ("authorization", "cookie") if name in self.headers)
        if kubeflow.authorization and sent != kubeflow.authorization:
            self._send(refusal(401, "Failed to authenticate token review"))
            return
        planned = kubeflow.instead.get(route) or [None]
        instead = planned.pop(0)
        if instead not in (None, DROP_AFTERWARDS):
            self._send(instead)
            return
        try:
            done = operation(kubeflow, path, query, self._body(model, content))
            if isinstance(done, tuple) and done[0] == 200:
                answer = CONTRACT[route[0], _API + route[1]]
                conforms(answer, done[1], answer)
        except Exception as error:
            kubeflow.complaints.append(f"{route}: {type(error).__name__} {error}")
            done = refusal(500, "broken")
        self._send(DROP if instead else done)

    def _body(self, model: str, content: bytes) -> Any:
        kind = self.headers.get("content-type") or ""
        if kind.startswith("multipart/form-data"):
            form = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + content)
            _, part = form.walk()
            assert part.get_param("name", header="content-disposition") == "uploadfile"
            return part.get_payload(decode=True)
        if not model:
            return None
        body = json.loads(content)
        conforms(model, body, model)
        return body

    def _send(self, done: Any) -> None:
        if done == DROP:
            self.close_connection = True
        elif done == HTML:
            self._answer(200, LOGIN_PAGE, "text/html")
        else:
            self._answer(done[0], json.dumps(done[1]).encode(), "application/json")

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        if 300 <= status < 400:
            self.send_header("location", "/login")
        with suppress(BrokenPipeError, ConnectionResetError):  # a test may have killed who asked
            self.end_headers()
            self.wfile.write(content)


@contextmanager
def serving(kubeflow: FakeKubeflow, tls: ssl.SSLContext | None = None) -> Iterator[FakeKubeflow]:
    """Serve, with TLS if its context is given; afterwards fail if anything that went to and fro broke the contract."""
    handler = type("Handler", (_Handler,), {"kubeflow": kubeflow})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    kubeflow.address = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield kubeflow
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert not kubeflow.complaints
