"""The peers, each in an environment of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import orjson

from predictor.model.cpus import available_cpus
from tests.benchmarks.serving.servers import HOST, MODEL, Engine, Place, Server, Setting, Unavailable, last_line, tensor
from tests.ports import free_port

PEERS_FOLDER = Path("bench/peers")
_INSTALL_SECONDS = 1800
# Where the weights of an engine lie, and under which name infinity finds them.
_ONNX_FILES: dict[Engine, str] = {"ONNX fp32": "fp32/model.onnx", "ONNX int8": "int8/model_quantized.onnx"}


def _service(name: str) -> str:
    return str(Path(__file__).parent / "services" / f"{name}.py")


def _reference(place: Place, setting: Setting) -> list[str]:
    return [str(place.python), _service("reference"), str(place.weights), str(place.port), str(setting.threads)]


def _lit(place: Place, setting: Setting) -> list[str]:
    numbers = (place.port, setting.threads, setting.batch, setting.wait_ms, setting.workers)
    engine = str(place.weights / _ONNX_FILES[setting.engine]) if setting.engine in _ONNX_FILES else setting.engine
    return [str(place.python), _service("lit"), str(place.weights), *map(str, numbers), engine]


def _mlserver(place: Place, setting: Setting) -> list[str]:
    place.file(
        "settings.json",
        {
            "host": HOST, "http_port": place.port, "grpc_port": free_port(), "metrics_port": free_port(),
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
    onnx = _ONNX_FILES.get(setting.engine)
    folder = (place.weights / onnx).parent if onnx else place.weights
    # It looks for ONNX files by their path, and finds them only where that is relative.
    command = [
        "env", "--chdir", str(folder), str(place.python.parent / "infinity_emb"), "v2", "--model-id", ".",
        "--served-model-name", MODEL, "--device", "cpu", "--host", HOST, "--port", str(place.port),
        "--batch-size", str(setting.batch), "--no-model-warmup", "--no-bettertransformer",
    ]  # fmt: skip
    if onnx:
        return [*command, "--engine", "optimum"]
    return [*command, "--engine", "torch", "--dtype", "bfloat16" if setting.engine == "bf16" else "float32"]


_TORCH = "torch==2.13.0"
_V2 = f"/v2/models/{MODEL}/infer"
PEERS = {
    "reference": Server(
        "reference design (FastAPI, PyTorch)", _reference, "/predict", lambda texts: {"text": texts[0]}, "/health",
        many=False, settings=(Setting(threads=1), Setting(threads=2)),
        packages=("fastapi", "uvicorn", "prometheus-client", "transformers>=5.20,<6", _TORCH),
    ),
    "mlserver": Server(
        "MLServer 1.7.1", _mlserver, _V2, tensor("array_inputs"), "/v2/health/ready",
        settings=(
            Setting(), Setting(threads=1, workers=available_cpus()), Setting(batch=32, wait_ms=20),
            Setting(batch=8, wait_ms=5),
        ),
        # With a later uvloop it does not start, with a later transformers it does not import, and where there is ONNX
        # Runtime it imports a part of optimum that this PyTorch breaks.
        packages=("mlserver==1.7.1", "mlserver-huggingface==1.7.1", "uvloop<0.22", "transformers==4.41.2", _TORCH),
        without="onnxruntime",
    ),
    "infinity": Server(
        "infinity-emb 0.0.78", _infinity, "/classify", lambda texts: {"model": MODEL, "input": list(texts)}, "/health",
        settings=(
            Setting(batch=8), Setting(batch=32), Setting(batch=8, engine="bf16"), Setting(batch=8, engine="ONNX fp32"),
            Setting(batch=8, engine="ONNX int8"), Setting(batch=32, engine="ONNX int8"),
        ),
        packages=("infinity-emb[torch,optimum,server]==0.0.78", "transformers<5", _TORCH),
    ),
    "litserve": Server(
        "LitServe 0.2.19", _lit, "/predict", lambda texts: {"text": texts[0]}, "/health", many=False,
        settings=(
            Setting(batch=32, wait_ms=10), Setting(batch=8, wait_ms=2), Setting(batch=32, wait_ms=10, engine="bf16"),
            Setting(batch=8, wait_ms=2, engine="ONNX fp32"), Setting(batch=8, wait_ms=2, engine="ONNX int8"),
            Setting(threads=1, batch=8, wait_ms=2, engine="ONNX int8", workers=available_cpus()),
        ),
        packages=("litserve==0.2.19", "transformers>=5.20,<6", "onnxruntime==1.32.0", _TORCH),
    ),
}  # fmt: skip


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
        raise Unavailable(f"pip cannot install it: {last_line(error.stderr)}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"pip took longer than {_INSTALL_SECONDS} s") from error
    if PEERS[key].without:
        subprocess.run([*pip[:3], "uninstall", "--quiet", "--yes", PEERS[key].without], check=True)
    done.write_text(wanted)
    return python


def weights_for_peers(bundle: Path, out: Path) -> Path:
    """Copy what plain transformers of any version reads: the same weights, and a tokenizer named without a version.

    Beside it lie weights for ONNX Runtime, in fp32 as in the bundle, and in int8 as its `quantize_dynamic` makes them.
    """
    given = orjson.loads((bundle / "tokenizer_config.json").read_bytes())
    kept = {name: value for name, value in given.items() if name.endswith("_token") or name == "model_max_length"}
    kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    from onnxruntime.quantization import quantize_dynamic

    fp32, int8 = out / _ONNX_FILES["ONNX fp32"], out / _ONNX_FILES["ONNX int8"]
    for folder in (out, fp32.parent, int8.parent):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "tokenizer.json"):
            shutil.copyfile(bundle / name, folder / name)
        (folder / "tokenizer_config.json").write_bytes(orjson.dumps(kept))
    shutil.copyfile(bundle / "model.safetensors", out / "model.safetensors")
    shutil.copyfile(bundle / "onnx" / "model.onnx", fp32)
    # It takes ONNX's own operator for attention for one of its own, and would write a graph that does not load.
    quantize_dynamic(fp32, int8, op_types_to_quantize=["MatMul", "Gemm"])
    return out
