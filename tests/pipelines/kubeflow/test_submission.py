"""What goes to Kubeflow and what comes back, over HTTP, through kfp's own client."""

import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import kfp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pipelines.kubeflow.client import Kubeflow, Login, LoginRefused, connect
from pipelines.kubeflow.package import Package, read_package
from pipelines.kubeflow.submission import Polling, ensure_experiment, failures, start, stop, upload, wait
from pipelines.running.compiling import compile_all
from predictor.errors import InputError, Unavailable
from tests.fakes.kubeflow_api import CONTRACT, DROP, DROP_AFTERWARDS, HTML, ROUTES, FakeKubeflow, refusal, serving

FAST = Polling(timeout=30, outage=20, first_interval=0.01, longest_interval=0.02)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    file, *_ = compile_all(tmp_path_factory.mktemp("ir"))
    return read_package(file)


@pytest.fixture
def fake() -> Iterator[FakeKubeflow]:
    with serving(FakeKubeflow()) as kubeflow:
        yield kubeflow


def arrived(fake: FakeKubeflow, **login: Any) -> Kubeflow:
    return connect(Login(fake.address, **login))


def started(kubeflow: Kubeflow, package: Package) -> str:
    return start(kubeflow, upload(kubeflow, package), package.arguments(["bundle_root=s3://m"]), "pigeonhole", "")


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS, and the certificate that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    certificate = made.add_extension(address, critical=False).sign(key, hashes.SHA256())
    file, secret = folder / "certificate.pem", folder / "key.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, secret)
    return context, file


def test_the_stand_in_serves_only_what_kfps_client_knows() -> None:
    assert {(method, f"/apis/v2beta1{path}") for method, path in ROUTES} <= set(CONTRACT)


def test_a_package_is_uploaded_under_its_digest_once(fake: FakeKubeflow, package: Package) -> None:
    first, second = (upload(arrived(fake), package) for _ in range(2))
    assert (first.uploaded, second.uploaded) == (True, False)
    assert replace(first, uploaded=False) == second
    (version,) = fake.versions
    assert version["name"] == f"pigeonhole-training-{package.digest[:12]}"
    assert version["description"] == f"sha256:{package.digest}"
    assert version["pipeline_spec"] == package.documents[0]
    assert [pipeline["name"] for pipeline in fake.pipelines] == ["pigeonhole-training"]
    assert fake.count("POST", "/pipelines/upload_version") == 1


def test_other_content_is_another_version(fake: FakeKubeflow, package: Package, tmp_path: Path) -> None:
    other, *_ = compile_all(tmp_path, "example.org/steps-python@sha256:abc")
    names = [upload(arrived(fake), each).name for each in (package, read_package(other))]
    assert len(set(names)) == 2 == len(fake.versions) and len(fake.pipelines) == 1


def test_whoever_loses_the_race_to_upload_takes_the_winners_version(fake: FakeKubeflow, package: Package) -> None:
    winner = upload(arrived(fake), package)
    # What the loser saw before the winner was done: neither pipeline nor version.
    fake.instead["GET", "/pipelines/names/{name}"] = [refusal(404, "Pipeline not found")]
    fake.instead["GET", "/pipelines/{pipeline_id}/versions"] = [(200, {})]
    loser = upload(arrived(fake), package)
    assert loser == replace(winner, uploaded=False)
    assert fake.count("POST", "/pipelines") == 2 and fake.count("POST", "/pipelines/upload_version") == 2
    assert len(fake.versions) == 1


def test_a_run_has_the_version_the_arguments_and_the_account(fake: FakeKubeflow, package: Package) -> None:
    kubeflow = arrived(fake)
    version = upload(kubeflow, package)
    arguments = package.arguments(["bundle_root=s3://m", "seed=7", "min_accuracy=0.8", 'hyperparameters={"a": "1"}'])
    run_id = start(kubeflow, version, arguments, "nightly", "steps")
    (run,) = fake.runs
    assert run["run_id"] == run_id and run["service_account"] == "steps"
    assert run["runtime_config"]["parameters"] == {
        "bundle_root": "s3://m", "seed": 7, "min_accuracy": 0.8, "hyperparameters": {"a": "1"},
    }  # fmt: skip
    reference = {"pipeline_id": version.pipeline_id, "pipeline_version_id": version.version_id}
    assert run["pipeline_version_reference"] == reference
    assert [each["display_name"] for each in fake.experiments] == ["nightly"]
    # kfp's client as others use it finds the same.
    with pytest.warns(FutureWarning):
        theirs = kfp.Client(fake.address, namespace="team-a")
    assert theirs.get_run(run_id).pipeline_version_reference.pipeline_version_id == version.version_id


def test_an_answer_that_got_lost_does_not_start_a_second_run(fake: FakeKubeflow, package: Package) -> None:
    fake.instead["POST", "/runs"] = [DROP_AFTERWARDS]
    assert started(arrived(fake), package) == "run-0"
    assert len(fake.runs) == 1 == fake.count("POST", "/runs")


def test_nor_does_a_gateway_that_gave_up_too_early(fake: FakeKubeflow, package: Package) -> None:
    kubeflow = arrived(fake)
    version = upload(kubeflow, package)
    operation, model = ROUTES["POST", "/runs"]

    def slow(*arguments: Any) -> Any:
        operation(*arguments)
        return refusal(504, "upstream request timeout")

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(ROUTES, ("POST", "/runs"), (slow, model))
        assert start(kubeflow, version, {}, "pigeonhole", "") == "run-0"
    assert len(fake.runs) == 1


def test_who_cannot_know_whether_it_started_says_so(fake: FakeKubeflow, package: Package) -> None:
    fake.instead["POST", "/runs"], fake.instead["GET", "/runs"] = [DROP_AFTERWARDS], [DROP]
    with pytest.raises(Unavailable, match=r"it may go on there: look for 'pigeonhole-training-\w+ \w+' before"):
        started(arrived(fake), package)


def test_a_request_that_got_lost_starts_no_run_and_says_so(fake: FakeKubeflow, package: Package) -> None:
    fake.instead["POST", "/runs"] = [DROP]
    with pytest.raises(Unavailable, match="does not answer"):
        started(arrived(fake), package)
    assert fake.runs == []


def test_two_that_make_the_experiment_at_once_share_it(fake: FakeKubeflow) -> None:
    first = ensure_experiment(arrived(fake), "pigeonhole")
    fake.instead["GET", "/experiments"] = [(200, {})]
    assert ensure_experiment(arrived(fake), "pigeonhole") == first
    assert fake.count("POST", "/experiments") == 2 and len(fake.experiments) == 1


@pytest.mark.parametrize("end", ["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"])
def test_waiting_ends_with_the_run_whichever_way_it_ends(fake: FakeKubeflow, package: Package, end: str) -> None:
    fake.states = ["PENDING", "RUNNING", "RUNNING", end]
    fake.tasks = [{"display_name": "fine-tune", "state": "FAILED"}, {"display_name": "prepare", "state": "SUCCEEDED"}]
    kubeflow = arrived(fake)
    run = wait(kubeflow, started(kubeflow, package), FAST)
    assert run.state == end
    assert failures(run) == (["fine-tune"] if end == "FAILED" else [])


def test_waiting_outlasts_what_passes(fake: FakeKubeflow, package: Package, capfd: pytest.CaptureFixture[str]) -> None:
    fake.states = ["RUNNING", 503, 502, 500, 429, DROP, DROP, "RUNNING", 504, "SUCCEEDED"]
    kubeflow = arrived(fake)
    run_id = started(kubeflow, package)
    assert wait(kubeflow, run_id, FAST).state == "SUCCEEDED"
    told = capfd.readouterr().err
    assert "fails to show the run run-0 (503, not now); asking again" in told and "does not answer" in told
    assert told.count(f"run {run_id}: RUNNING") == 2  # at first, and when it is back


def test_a_server_that_falls_silent_is_asked_again(
    fake: FakeKubeflow, package: Package, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    kubeflow = arrived(fake)
    run_id = started(kubeflow, package)
    monkeypatch.setattr("pipelines.kubeflow.client._READ_SECONDS", 0.2)
    done, looks = threading.Event(), iter(range(100))
    fake.on_look = lambda: done.wait(60) if next(looks) == 0 else None
    assert wait(kubeflow, run_id, FAST).state == "SUCCEEDED"
    done.set()
    assert "Read timed out" in capfd.readouterr().err


def test_a_server_that_stays_away_ends_the_waiting_and_the_run_goes_on(fake: FakeKubeflow, package: Package) -> None:
    fake.states = ["RUNNING", 503]
    kubeflow = arrived(fake)
    with pytest.raises(
        Unavailable,
        match=r"\(503, not now\) for 0.1 seconds now; the run goes on: .* --follow run-0, .* --stop run-0",
    ):
        wait(kubeflow, started(kubeflow, package), replace(FAST, outage=0.1))


def test_waiting_has_an_end(fake: FakeKubeflow, package: Package) -> None:
    fake.states = ["RUNNING"]
    kubeflow = arrived(fake)
    with pytest.raises(Unavailable, match=r"has not ended after 0.1 seconds; the run goes on"):
        wait(kubeflow, started(kubeflow, package), replace(FAST, timeout=0.1))


def test_a_run_that_is_deleted_ends_the_waiting(fake: FakeKubeflow) -> None:
    with pytest.raises(InputError, match=r"refuses to show the run nothing \(404, Run nothing not found\)"):
        wait(arrived(fake), "nothing", FAST)


def test_a_token_that_expires_is_read_anew(fake: FakeKubeflow, package: Package, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    fake.authorization, fake.states = "Bearer old", ["RUNNING", "RUNNING", "SUCCEEDED"]
    kubeflow = arrived(fake, token_file=file)
    run_id = started(kubeflow, package)
    looks = iter(range(100))

    def renew() -> None:
        # The server changes its mind first; the file follows while refusals come.
        if next(looks) == 1:
            fake.authorization = "Bearer new"
            threading.Timer(0.2, file.write_text, ["new"]).start()

    fake.on_look = renew
    before = len(fake.seen)
    assert wait(kubeflow, run_id, FAST).state == "SUCCEEDED"
    assert len(fake.seen) - before > 3  # some were refused


@pytest.mark.parametrize("answer", [401, 302, HTML])
def test_a_login_that_expires_ends_the_waiting_and_the_run_goes_on(
    fake: FakeKubeflow, package: Package, answer: Any
) -> None:
    fake.authorization, fake.states = "session=a", ["RUNNING", answer]
    kubeflow = arrived(fake, cookie="session=a")
    run_id = started(kubeflow, package)
    with pytest.raises(LoginRefused, match=r"--cookie.*; the run goes on: .* --follow run-0"):
        wait(kubeflow, run_id, FAST)


@pytest.mark.parametrize("answer", [401, 302, HTML])
def test_a_login_that_is_renewed_is_waited_for(
    fake: FakeKubeflow, package: Package, answer: Any, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a")
    fake.states = ["RUNNING", answer, answer, "SUCCEEDED"]
    kubeflow = arrived(fake, token_file=tmp_path / "token")
    assert wait(kubeflow, started(kubeflow, package), FAST).state == "SUCCEEDED"


def test_a_run_is_stopped(fake: FakeKubeflow, package: Package) -> None:
    fake.states = ["RUNNING"]
    kubeflow = arrived(fake)
    run_id = started(kubeflow, package)
    stop(kubeflow, run_id)
    assert wait(kubeflow, run_id, FAST).state == "CANCELED"
    with pytest.raises(InputError, match="refuses to stop the run other"):
        stop(kubeflow, "other")


@pytest.mark.parametrize("login", [{"token": "s3cret"}, {"cookie": "authservice_session=s3cret"}, {"token_file": ""}])
def test_every_login_is_sent_and_none_is_shown(fake: FakeKubeflow, login: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    if "token_file" in login:
        login = {"token_file": tmp_path / "token"}
    fake.authorization = login.get("cookie", "Bearer s3cret")
    assert "s3cret" not in repr(arrived(fake, **login).login)
    with pytest.raises(InputError, match="does not accept the login"):
        arrived(fake)


def test_the_token_that_kubeflow_mounts_is_found(
    fake: FakeKubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("mounted")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    fake.authorization = "Bearer mounted"
    arrived(fake)
    with pytest.raises(InputError, match="does not accept the login"):
        arrived(fake, token="other")  # what is given counts first


def test_the_home_folder_says_nothing(fake: FakeKubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = tmp_path / "context.json"
    context.write_text('{"namespace": "theirs", "client_authentication_cookie": "session=theirs"}')
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(context))
    fake.multi_user, fake.authorization = True, "Bearer mine"
    assert ensure_experiment(arrived(fake, namespace="team-a", token="mine"), "pigeonhole")
    assert fake.experiments[0]["namespace"] == "team-a"
    assert fake.count("GET", "/healthz") == 1


def test_where_there_are_many_namespaces_one_has_to_be_named(fake: FakeKubeflow, package: Package) -> None:
    fake.multi_user = True
    with pytest.raises(InputError, match=r"has a namespace for each user, and none is named: .* --namespace"):
        arrived(fake)
    first, second = (upload(arrived(fake, namespace="team-a"), package) for _ in range(2))
    assert first.uploaded and not second.uploaded
    assert fake.pipelines[0]["namespace"] == "team-a"
    upload(arrived(fake, namespace="team-b"), package)
    assert [pipeline["namespace"] for pipeline in fake.pipelines] == ["team-a", "team-b"]


REFUSALS: list[tuple[str, tuple[str, str], Any, type[Exception], str]] = [
    ("forbidden", ("GET", "/pipelines/names/{name}"), refusal(403, "User 'ci' is not authorized"), InputError,
     r"forbids to look for the pipeline pigeonhole-training in namespace kubeflow \(User 'ci' is not authorized\): "),
    ("forbidden run", ("POST", "/runs"), refusal(403, "no"), InputError, "forbids to run pigeonhole-training-.*"),
    ("refused upload", ("POST", "/pipelines/upload_version"),
     (400, {"error_message": "Failed to create a pipeline version", "error_details": "x"}), InputError,
     r"refuses to take the version .*without create on pipelines.*\(400, Failed to create a pipeline version\)"),
    ("bad argument", ("POST", "/runs"), refusal(400, "parameter x is\n unknown"), InputError, "parameter x is unknown"),
    ("broken", ("POST", "/experiments"), refusal(500, "database"), Unavailable, r"\(500, database\): try again"),
    ("login page", ("GET", "/healthz"), HTML, InputError, "answers with a page, not with JSON, .*--token-file"),
    ("login page later", ("GET", "/pipelines/names/{name}"), HTML, InputError, "answers with a page, not with JSON"),
    ("redirect", ("GET", "/healthz"), (302, {}), InputError, "sends us on to another address, .*login page"),
    ("no such path", ("GET", "/healthz"), (404, "404 page not found"), InputError, "no Kubeflow Pipelines API"),
    ("something else", ("GET", "/healthz"), (200, {"status": "ok"}), InputError, "no Kubeflow Pipelines API"),
    ("dropped", ("GET", "/healthz"), DROP, Unavailable, "does not answer"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("route", "answer", "kind", "message"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
def test_what_the_server_refuses_is_one_sentence(
    fake: FakeKubeflow, package: Package, route: tuple[str, str], answer: Any, kind: type[Exception], message: str
) -> None:
    fake.instead[route] = [answer]
    with pytest.raises(kind, match=message) as caught:
        started(arrived(fake), package)
    assert "\n" not in str(caught.value)


def test_nobody_there_is_one_sentence() -> None:
    with serving(FakeKubeflow()) as gone:
        pass
    with pytest.raises(Unavailable, match=r"does not answer .*check --host"):
        connect(Login(gone.address))


def test_plain_http_behind_https_is_one_sentence(fake: FakeKubeflow) -> None:
    with pytest.raises(InputError, match=r"cannot be trusted .* or write http:// if that is all it speaks"):
        connect(Login(fake.address.replace("http", "https")))


def test_a_certificate_is_trusted_once_its_authority_is_named(tmp_path: Path) -> None:
    tls, certificate = self_signed(tmp_path)
    with serving(FakeKubeflow(), tls) as fake:
        with pytest.raises(InputError, match=r"cannot be trusted .*CERTIFICATE_VERIFY_FAILED.*--ca-cert"):
            arrived(fake)
        assert arrived(fake, ca_cert=certificate).namespace == "kubeflow"


@pytest.mark.parametrize(
    ("login", "message"),
    [
        ({"host": ""}, "--host '' is not an http"),
        ({"host": "kubeflow.example.com"}, "is not an http"),
        ({"token": "a", "cookie": "b"}, "more than one login"),
        ({"token": "two\nlines"}, "--token has a line break"),
        ({"ca_cert": Path("/none.pem")}, "--ca-cert /none.pem is not a file"),
        ({"token_file": Path("/none")}, "--token-file /none cannot be read"),
        ({"token_file": Path("/dev/null")}, "--token-file /dev/null does not hold one token"),
    ],
)
def test_a_login_that_cannot_be_one_is_refused(fake: FakeKubeflow, login: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        connect(Login(**{"host": fake.address, **login}))
