"""The training history in MLflow: a point a finished epoch."""

from dataclasses import asdict

import mlflow

from components.training.recipe import Epoch


def log_epoch(row: Epoch) -> None:
    """Log a finished epoch's losses, accuracy and speed to the active run."""
    values = {key: float(value) for key, value in asdict(row).items() if key != "epoch"}
    mlflow.log_metrics(values, step=row.epoch)
