"""Figures of steps on their way to Prometheus: a real Pushgateway, and a file of the textfile collector."""

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from components.monitoring.publish import Places, Value, publish
from predictor.errors import InputError, Unavailable
from tests.ports import free_port

DRIFT = Value("text_classifier_drift_ratio", 0.31, "Drift.", {"model_name": "news"})
PARTS = [
    Value("text_classifier_drift_part_ratio", score, "Parts.", {"model_name": "news", "part": part})
    for part, score in (("length", 0.1), ("language", 0.31))
]
GROUP = {"model_name": "news"}


@contextmanager
def pushgateway() -> Iterator[str]:
    program = shutil.which("prometheus-pushgateway")
    if program is None:
        pytest.skip("no Pushgateway: install Debian's package prometheus-pushgateway")
    address = f"127.0.0.1:{free_port()}"
    # Debian's keeps figures in a file that all of them share.
    command = [program, f"--web.listen-address={address}", "--persistence.file=", "--log.level=error"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://{address}/-/ready", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the Pushgateway ended at once"
                time.sleep(0.1)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def metrics(url: str) -> list[str]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        return [line for line in answer.read().decode().splitlines() if line.startswith("text_classifier_")]


def test_a_pushgateway_has_the_last_figures_of_each_model_alone() -> None:
    with pushgateway() as url:
        publish([DRIFT, *PARTS], "drift", GROUP, Places(url))
        other = Value(DRIFT.name, 0.1, DRIFT.help, {"model_name": "mood"})
        publish([other], "drift", {"model_name": "mood"}, Places(url))
        assert len(metrics(url)) == 4
        publish([DRIFT, PARTS[1]], "drift", GROUP, Places(url))  # the other part could not be computed this time
        found = metrics(url)
        assert len(found) == 3 and not any('part="length"' in line for line in found)
        (line,) = (line for line in found if line.startswith(DRIFT.name) and 'model_name="news"' in line)
        assert 'job="drift"' in line and line.endswith(" 0.31")


def test_a_file_of_the_textfile_collector_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "drift.prom"
    publish([DRIFT, *PARTS], "drift", GROUP, Places(metrics_file=file))
    publish(PARTS, "drift", GROUP, Places(metrics_file=file))
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert lines == [
        'text_classifier_drift_part_ratio{model_name="news",part="length"} 0.1',
        'text_classifier_drift_part_ratio{model_name="news",part="language"} 0.31',
    ]
    assert list(tmp_path.iterdir()) == [file]


def test_a_pushgateway_that_is_away_may_be_asked_again_later(tmp_path: Path) -> None:
    file = tmp_path / "drift.prom"
    with pytest.raises(Unavailable, match="does not take the figures"):
        publish([DRIFT], "drift", GROUP, Places(f"http://127.0.0.1:{free_port()}", file))
    assert file.exists()  # what can be done is done first


def test_places_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for file in (tmp_path / "drift.txt", tmp_path / "none" / "drift.prom"):
        with pytest.raises(InputError, match=r"ends in \.prom"):
            Places(metrics_file=file).check()
    for address in ("http://[::", "http://push:gateway", "http://push gateway"):
        with pytest.raises(InputError, match="is no address"):
            publish([DRIFT], "drift", GROUP, Places(address))


def test_no_message_has_the_password_of_an_address() -> None:
    for kind, host in ((Unavailable, "127.0.0.1:1"), (InputError, "127.0.0.1:x")):
        with pytest.raises(kind) as raised:
            publish([DRIFT], "drift", GROUP, Places(f"http://somebody:hushhush@{host}"))
        assert "127.0.0.1" in str(raised.value) and "hushhush" not in str(raised.value)


def test_what_is_no_pushgateway_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        with ThreadPoolExecutor(1) as pool:
            answered = pool.submit(_answer, server)
            with pytest.raises(Unavailable, match="does not take the figures"):
                publish([DRIFT], "drift", GROUP, Places(address))
            answered.result()


def _answer(server: socket.socket) -> None:
    with server.accept()[0] as connection:
        connection.recv(65536)
        connection.sendall(b"220 mail.example.com\r\n")
