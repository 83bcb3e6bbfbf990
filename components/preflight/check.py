"""Checks all parameters of a run first, so that hours of training do not end with a name that MLflow refuses."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from components.data.preparing.settings import Checks, Classes, SplitRule
from components.evaluation.thresholds import Thresholds
from components.platform.progress import say
from components.platform.storage import check_writable, is_remote
from components.platform.tracking import check_tracking
from components.training.backbone import is_on_hub, resolve_backbone
from components.training.recipe import Recipe, training_rows
from predictor.errors import InputError, Unavailable
from predictor.naming import AnswerNames

_TOKENS = range(8, 513)
# RFC 1035, which KServe requires.
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class Plan:
    """The parameters of a pipeline run, by their names."""

    name: str
    bundle_root: str
    mlflow_tracking_uri: str = ""
    profile: str = "fast"
    backbone: str = "minilm"
    min_accuracy: float = 0.9
    thresholds: Mapping[str, float] = field(default_factory=dict)
    max_length: int = 128
    experiment: str = ""
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    checkpoint_root: str = ""
    num_nodes: int = 1
    service: str = ""
    namespace: str = ""
    prometheus: str = ""
    rollout: Mapping[str, float] = field(default_factory=dict)
    checks: Mapping[str, float] = field(default_factory=dict)
    split: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[str] = ()
    ordinal: bool = False
    multi_label: bool = False
    answer: Mapping[str, str] = field(default_factory=dict)


def check(plan: Plan) -> None:
    """Refuse what a later step would refuse, and try out the storage and MLflow.

    Raises:
        InputError: one sentence says what is wrong.
    """
    training_rows(plan.profile)
    Checks.named(plan.checks)
    SplitRule.named(plan.split)
    Classes(tuple(plan.labels), plan.ordinal, plan.multi_label)
    AnswerNames.named(plan.answer)
    Thresholds.named({"min_accuracy": plan.min_accuracy, **plan.thresholds})
    if plan.max_length not in _TOKENS:
        raise InputError(f"max_length is {plan.max_length}: give a number of tokens from 8 to 512")
    Recipe(epochs=1).with_hyperparameters({name: str(value) for name, value in plan.hyperparameters.items()})
    if not is_on_hub(plan.backbone):  # the step that trains downloads it
        resolve_backbone(plan.backbone)
    if plan.num_nodes < 1:
        raise InputError(f"num_nodes is {plan.num_nodes}: give the number of machines, at least 1")
    if plan.num_nodes > 1 and not is_remote(plan.checkpoint_root):
        raise InputError(
            f"num_nodes is {plan.num_nodes}, but checkpoint_root '{plan.checkpoint_root}' is no place that machines "
            "share: give a URI such as s3://bucket/checkpoints, or train with num_nodes 1"
        )
    if plan.experiment:
        from components.tuning.validation import parse_experiment

        parse_experiment(plan.experiment)
    if plan.service:
        _check_rollout(plan)
    for place in filter(None, (plan.bundle_root, plan.checkpoint_root)):
        check_writable(place)
    check_tracking(plan.name, plan.mlflow_tracking_uri)


def _check_rollout(plan: Plan) -> None:
    from components.platform.kubernetes import connect
    from components.rollout.inference_service import read
    from components.rollout.state import Settings

    if not _SERVICE.fullmatch(plan.service):
        raise InputError(f"service '{plan.service}' is no name of an InferenceService: use a-z, 0-9 and '-'")
    if not plan.prometheus.startswith(("http://", "https://")):
        raise InputError(
            f"prometheus '{plan.prometheus}' is no address, and a rollout is judged by metrics: give one such as "
            "http://prometheus.monitoring:9090, or no service"
        )
    Settings.named(plan.rollout)
    try:
        read(connect(plan.namespace), plan.service)
    except Unavailable as error:
        say(f"{error}; the rollout will look again")
