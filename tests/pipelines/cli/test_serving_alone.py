"""The predictor's image has the extra `serve` alone: serving imports nothing of the others."""

import subprocess
import sys
from pathlib import Path

_OTHERS = [
    "datasets",
    "docker",
    "hyperopt",
    "kfp",
    "mlflow",
    "nltk",
    "onnx",
    "onnxscript",
    "sklearn",
    "torch",
    "transformers",
]
_WITHOUT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {_OTHERS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def _run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", _WITHOUT + code, *args], capture_output=True, text=True)


def test_the_command_line_starts_without_the_other_extras(tmp_path: Path) -> None:
    done = _run("from pipelines.cli.app import main; main()", "serve", str(tmp_path / "none"))
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"pigeonhole: {tmp_path}/none is not a folder")


def test_a_bundle_is_opened_and_answers_without_the_other_extras(bundle: Path) -> None:
    code = """
from pathlib import Path
from predictor.serving.server import _import_kserve
_import_kserve()
from predictor.serving.kserve_model import TextClassifier
from predictor.serving.http.front_door import FrontDoor
from predictor.serving.scheduler import Limits
model = TextClassifier("toy", Path(sys.argv[1]), Limits(1024, 1.0, 0, 1024))
print("loaded", model.version)
model.stop()
"""
    done = _run(code, str(bundle))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("loaded")
