"""The rules of manifests/monitoring/alerts as a plain Prometheus takes them: `make rules` writes and checks them."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

MONITORING = ROOT / "manifests/monitoring"
OWN = "text_classifier:threshold:own"
Rule = dict[str, Any]


@cache
def files() -> dict[str, list[dict[str, Any]]]:
    """Return the groups of rules of each PrometheusRule, by the name of its file."""
    found = {}
    for file in sorted((MONITORING / "alerts").glob("*.yaml")):
        document = yaml.safe_load(file.read_text())
        if document["kind"] == "PrometheusRule":
            found[file.name] = document["spec"]["groups"]
    return found


def rules() -> list[Rule]:
    return [rule for groups in files().values() for group in groups for rule in group["rules"]]


def alerts() -> dict[str, Rule]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def write(folder: Path, interval: str = "", at_once: bool = False) -> list[Path]:
    """Write a file of rules for each PrometheusRule, and the files of promtool's tests below it.

    Args:
        folder: where to.
        interval: how often rules are evaluated; empty for Prometheus's own.
        at_once: alerts do not wait for the time that their `for` says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, groups in deepcopy(files()).items():
        for group in groups:
            group |= {"interval": interval} if interval else {}
            for rule in group["rules"]:
                if at_once:
                    rule.pop("for", None)
        (folder / name).write_text(yaml.safe_dump({"groups": groups}, sort_keys=False, width=120))
        written.append(folder / name)
    shutil.copytree(MONITORING / "tests", folder / "tests", dirs_exist_ok=True)
    return written


def own_thresholds(folder: Path, values: Sequence[tuple[dict[str, str], float]], interval: str = "") -> Path:
    """Write a file of rules with thresholds of a user's own, as docs/alerts.md shows them."""
    recorded = [{"record": OWN, "labels": labels, "expr": f"vector({value})"} for labels, value in values]
    group = {"name": "own-thresholds", "rules": recorded} | ({"interval": interval} if interval else {})
    (folder / "own.yaml").write_text(yaml.safe_dump({"groups": [group]}, sort_keys=False))
    return folder / "own.yaml"


def main(folder: Path) -> int:
    """Write the rules, and run promtool's check and tests on them; return its exit code."""
    if not shutil.which("promtool"):
        print("no promtool is installed: it comes with Prometheus", file=sys.stderr)
        return 2
    written = [str(file) for file in write(folder)]
    tests = [str(file) for file in sorted((folder / "tests").glob("*.yaml"))]
    code = subprocess.run(["promtool", "check", "rules", *written], check=False).returncode
    return code or subprocess.run(["promtool", "test", "rules", *tests], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(ROOT / "build/rules"))
