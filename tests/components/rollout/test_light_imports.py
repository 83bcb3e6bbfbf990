"""What `kubectl pigeonhole` loads to look at a rollout, or to end one."""

import json
import subprocess
import sys

import pytest

_SCRIPT = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(f"components.rollout.{name}")
print(json.dumps([name for name in ("scipy", "numpy", "mlflow", "fsspec", "torch") if name in sys.modules]))
"""


@pytest.mark.parametrize(
    "modules", [["record", "state", "transitions", "inference_service", "versions"], ["controller", "endings"]]
)
def test_a_rollout_is_read_and_ended_without_what_a_judge_needs(modules: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT, *modules], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
