"""Experiments for tests: a document that is right, and a trial that is a few lines of Python."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from components import STEPS_IMAGE
from components.tuning.experiment import Experiment
from components.tuning.validation import check_experiment

RATE = {"name": "learning_rate", "parameterType": "double", "feasibleSpace": {"min": "0.0001", "max": "0.1"}}
EPOCHS = {"name": "epochs", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "9"}}


def document(script: Path | str = "trial.py", parameters: list[dict[str, Any]] | None = None, **spec: Any) -> Any:
    """An Experiment as YAML would give it; `spec` replaces parts of its spec."""
    parameters = deepcopy([RATE] if parameters is None else parameters)
    names = [parameter["name"] for parameter in parameters]
    command = ["python", str(script), "--data", "/mnt/dataset", *(f"${{trialParameters.{name}}}" for name in names)]
    container = {"name": "trial", "image": STEPS_IMAGE, "command": command}
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": "toy"},
        "spec": {
            "objective": {
                "type": "maximize",
                "objectiveMetricName": "validation_accuracy",
                "additionalMetricNames": ["validation_loss"],
                "metricStrategies": [{"name": "validation_loss", "value": "min"}],
            },
            "algorithm": {"algorithmName": "random"},
            "parameters": parameters,
            "parallelTrialCount": 1,
            "maxTrialCount": 3,
            "trialTemplate": {
                "primaryContainerName": "trial",
                "trialParameters": [{"name": name, "reference": name} for name in names],
                "trialSpec": {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
                },
            },
            **spec,
        },
    }


def experiment(
    script: Path | str = "trial.py", parameters: list[dict[str, Any]] | None = None, **spec: Any
) -> Experiment:
    return check_experiment(document(script, parameters, **spec))


def written(folder: Path, content: Mapping[str, Any], name: str = "experiment.yaml") -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump(content))
    return file
