"""The servers that are compared: ours, and peers in environments of their own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import psutil

from tests.benchmarks.serving.load import Load, drive, get, post
from tests.ports import free_port

PEERS_FOLDER = Path("bench/peers")
MODEL = "classifier"
_HOST = "127.0.0.1"
_START_SECONDS = 300
_INSTALL_SECONDS = 1800


class Unavailable(Exception):
    """A server that cannot run here: one sentence that says why."""


@dataclass(frozen=True)
class Setting:
    """One way to run a server."""

    threads: int = 2
    """Of the matrix library, in each worker."""
    batch: int = 1
    """Texts that the server may gather; 1: it does not."""
    wait_ms: int = 0
    """Milliseconds it may wait for them."""
    bf16: bool = False
    workers: int = 1

    def __str__(self) -> str:
        gathered = f", {self.batch} texts / {self.wait_ms} ms" if self.batch > 1 else ""
        workers = f"{self.workers} x " if self.workers > 1 else ""
        return f"{workers}{self.threads} threads{gathered}{', bf16' if self.bf16 else ''}"


@dataclass(frozen=True)
class Place:
    """Where a server is started."""

    python: Path
    weights: Path
    """The bundle, or the copy of it that the peers read."""
    port: int
    scratch: Path

    def file(self, name: str, content: object) -> None:
        """Write a file of settings as JSON."""
        (self.scratch / name).write_bytes(orjson.dumps(content))


@dataclass(frozen=True)
class Server:
    """A kind of server."""

    name: str
    command: Callable[[Place, Setting], list[str]]
    path: str
    body: Callable[[Sequence[str]], object]
    """The JSON of a request."""
    health: str
    many: bool = True
    """Whether a request may hold more than one text."""
    settings: tuple[Setting, ...] = (Setting(),)
    """Those worth trying."""
    packages: tuple[str, ...] = ()
    """What pip installs for it; none: it runs where the benchmark does."""
    without: str = ""
    """A package that comes with them and breaks it."""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    server: Server
    host: str
    port: int
    pid: int = 0
    """0: somebody else's."""

    def requests(self, calls: Sequence[Sequence[str]]) -> list[bytes]:
        """Return a request for each group of texts."""
        return [post(self.host, self.server.path, orjson.dumps(self.server.body(texts))) for texts in calls]

    @property
    def probe(self) -> bytes:
        """A request for its health."""
        return get(self.host, self.server.health)

    @property
    def resident(self) -> int:
        """Bytes of memory of all its processes."""
        process = psutil.Process(self.pid)
        return int(sum(part.memory_info().rss for part in (process, *process.children(recursive=True))))


def _ours(place: Place, setting: Setting) -> list[str]:
    return [
        str(place.python), "-m", "pipelines.cli", "serve", str(place.weights), "--model-name", MODEL,
        "--http-port", str(place.port), "--grpc-port", str(free_port()), "--cache-entries", "0",
    ]  # fmt: skip


def _reference(place: Place, setting: Setting) -> list[str]:
    return [str(place.python), _service("reference"), str(place.weights), str(place.port), str(setting.threads)]


def _lit(place: Place, setting: Setting) -> list[str]:
    numbers = (place.port, setting.threads, setting.batch, setting.wait_ms, int(setting.bf16), setting.workers)
    return [str(place.python), _service("lit"), str(place.weights), *map(str, numbers)]


def _mlserver(place: Place, setting: Setting) -> list[str]:
    place.file(
        "settings.json",
        {
            "host": _HOST, "http_port": place.port, "grpc_port": free_port(), "metrics_port": free_port(),
            "parallel_workers": setting.workers, "debug": False,
        },
    )  # fmt: skip
    batching = {"max_batch_size": setting.batch, "max_batch_time": setting.wait_ms / 1000} if setting.batch > 1 else {}
    extra = {"task": "text-classification", "pretrained_model": str(place.weights), "framework": "pt"}
    runtime = "mlserver_huggingface.HuggingFaceRuntime"
    place.file(
        "model-settings.json",
        {"name": MODEL, "implementation": runtime, "parameters": {"extra": extra}, **batching},
    )
    return [str(place.python.parent / "mlserver"), "start", str(place.scratch)]


def _infinity(place: Place, setting: Setting) -> list[str]:
    return [
        str(place.python.parent / "infinity_emb"), "v2", "--model-id", str(place.weights),
        "--served-model-name", MODEL, "--engine", "torch", "--device", "cpu", "--host", _HOST,
        "--port", str(place.port), "--batch-size", str(setting.batch), "--no-model-warmup", "--no-bettertransformer",
        "--dtype", "bfloat16" if setting.bf16 else "float32",
    ]  # fmt: skip


def _tensor(name: str) -> Callable[[Sequence[str]], object]:
    return lambda texts: {"inputs": [{"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}]}


_TORCH = "torch==2.13.0"
_V1 = f"/v1/models/{MODEL}:predict"
_V2 = f"/v2/models/{MODEL}/infer"
OURS = Server("ours", _ours, _V1, lambda texts: {"instances": list(texts)}, "/v2/health/ready")
PEERS = {
    "reference": Server(
        "reference design (FastAPI, PyTorch)", _reference, "/predict", lambda texts: {"text": texts[0]}, "/health",
        many=False, settings=(Setting(threads=1), Setting(threads=2)),
        packages=("fastapi", "uvicorn", "prometheus-client", "transformers>=5.20,<6", _TORCH),
    ),
    "mlserver": Server(
        "MLServer 1.7.1", _mlserver, _V2, _tensor("array_inputs"), "/v2/health/ready",
        settings=(Setting(), Setting(threads=1, workers=2), Setting(batch=32, wait_ms=20), Setting(batch=8, wait_ms=5)),
        # With a later uvloop it does not start, with a later transformers it does not import, and where there is ONNX
        # Runtime it imports a part of optimum that this PyTorch breaks.
        packages=("mlserver==1.7.1", "mlserver-huggingface==1.7.1", "uvloop<0.22", "transformers==4.41.2", _TORCH),
        without="onnxruntime",
    ),
    "infinity": Server(
        "infinity-emb 0.0.78", _infinity, "/classify", lambda texts: {"model": MODEL, "input": list(texts)}, "/health",
        settings=(Setting(batch=8), Setting(batch=32), Setting(batch=8, bf16=True), Setting(batch=32, bf16=True)),
        packages=("infinity-emb[torch,server]==0.0.78", "transformers<5", _TORCH),
    ),
    "litserve": Server(
        "LitServe 0.2.19", _lit, "/predict", lambda texts: {"text": texts[0]}, "/health", many=False,
        settings=(
            Setting(batch=32, wait_ms=10), Setting(batch=8, wait_ms=2), Setting(batch=32, wait_ms=10, bf16=True),
            Setting(threads=1, batch=8, wait_ms=2, bf16=True, workers=2),
        ),
        packages=("litserve==0.2.19", "transformers>=5.20,<6", _TORCH),
    ),
}  # fmt: skip


def elsewhere(url: str) -> Running:
    """Return a server that runs already; the path says which protocol it speaks.

    Raises:
        Unavailable: the path is of no protocol that is known here.
    """
    parts = urlsplit(url)
    bodies: dict[str, tuple[Callable[[Sequence[str]], object], str]] = {
        ":predict": (OURS.body, "/"),
        "/infer": (_tensor("text"), "/v2/health/ready"),
        "/predict": (lambda texts: {"inputs": [[text] for text in texts]}, "/health"),
    }
    for ending, (body, health) in bodies.items():
        if parts.hostname and parts.path.endswith(ending):
            server = Server(url, lambda place, setting: [], parts.path, body, health)
            return Running(server, parts.hostname, parts.port or 80)
    raise Unavailable(f"{url} ends in none of {', '.join(bodies)}: give the whole address of V1, V2 or TEI")


def installed(key: str) -> Path:
    """Make the environment of a peer where it is missing, and return its Python.

    Raises:
        Unavailable: pip cannot install it.
    """
    folder = PEERS_FOLDER / key
    python = folder.absolute() / "bin" / "python"
    done = folder / ".installed"
    wanted = "\n".join(PEERS[key].packages)
    if done.is_file() and done.read_text() == wanted:
        return python
    print(f"installing {PEERS[key].name}: {', '.join(PEERS[key].packages)}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", *PEERS[key].packages]
    try:
        subprocess.run(pip, check=True, stderr=subprocess.PIPE, text=True, timeout=_INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"pip cannot install it: {_last_line(error.stderr)}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"pip took longer than {_INSTALL_SECONDS} s") from error
    if PEERS[key].without:
        subprocess.run([*pip[:3], "uninstall", "--quiet", "--yes", PEERS[key].without], check=True)
    done.write_text(wanted)
    return python


def weights_for_peers(bundle: Path, out: Path) -> Path:
    """Copy what plain transformers of any version reads: the same weights, and a tokenizer named without a version."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copyfile(bundle / name, out / name)
    given = orjson.loads((bundle / "tokenizer_config.json").read_bytes())
    kept = {name: value for name, value in given.items() if name.endswith("_token") or name == "model_max_length"}
    kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    (out / "tokenizer_config.json").write_bytes(orjson.dumps(kept))
    return out


@contextlib.contextmanager
def started(server: Server, python: Path, weights: Path, scratch: Path, setting: Setting) -> Iterator[Running]:
    """Start a server, wait until it answers a text, and end it.

    Raises:
        Unavailable: it ends, or does not answer in time.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    place = Place(python, weights.absolute(), free_port(), scratch.absolute())
    threads = str(setting.threads)
    environment = {
        **os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    if server.packages:
        environment.pop("PYTHONPATH", None)
    log = scratch / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            server.command(place, setting), stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
    try:
        running = Running(server, _HOST, place.port, process.pid)
        _wait(running, process, log)
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(running: Running, process: "subprocess.Popen[bytes]", log: Path) -> None:
    request = running.requests([["is anybody there?"]])
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Unavailable(f"it ended with {process.returncode}: {_last_line(log.read_text())}")
        with contextlib.suppress(OSError):
            if not drive(Load(running.host, running.port, request, 1)).errors:
                return
        time.sleep(0.2)
    raise Unavailable(f"it did not answer within {_START_SECONDS} s: {_last_line(log.read_text())}")


def _service(name: str) -> str:
    return str(Path(__file__).parent / "services" / f"{name}.py")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:200]
