"""The Experiment file: what is read from it, and a sentence for each way it can be wrong."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_katib_api.models import V1beta1Experiment

from components import STEPS_IMAGE
from components.training.recipe import Recipe
from components.tuning.experiment import primary_container
from components.tuning.suggestions import suggest
from components.tuning.trial import parser
from components.tuning.validation import check_experiment, parse_experiment, read_experiment
from predictor.errors import InputError
from tests.components.tuning.experiments import EPOCHS, RATE, document, experiment, written

MANIFEST = Path(__file__).parents[3] / "manifests" / "katib" / "experiment.yaml"


def test_the_manifest_is_an_experiment_for_katib_and_for_us() -> None:
    content = yaml.safe_load(MANIFEST.read_text())
    katib = V1beta1Experiment.from_dict(content)
    assert katib.spec.objective.objective_metric_name == "validation_accuracy"
    read = read_experiment(MANIFEST)
    assert read.algorithm == "tpe" and read.early_stopping is not None
    assert {parameter.name for parameter in read.parameters} >= {
        "learning_rate",
        "batch_tokens",
        "weight_decay",
        "epochs",
    }
    assert read.objective.strategies == {"validation_accuracy": "max", "validation_loss": "min"}


def test_the_manifests_trial_is_one_that_our_trial_understands() -> None:
    read = read_experiment(MANIFEST)
    assignments = suggest(read, 0, [])
    assert assignments is not None
    command = read.command_for(assignments)
    assert command[:2] == ["pigeonhole", "trial"]
    parsed = vars(parser().parse_args(command[2:]))
    assert {name: parsed[name] for name in assignments} == assignments
    assert parsed["data"] == "/mnt/dataset" and parsed["backbone"] == "minilm"
    Recipe(epochs=1).with_hyperparameters(assignments)


def test_the_manifests_pod_is_one_that_the_restricted_standard_admits() -> None:
    content = yaml.safe_load(MANIFEST.read_text())
    template = content["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]
    container = primary_container(content)
    assert template["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert template["spec"]["restartPolicy"] == "Never" and template["spec"]["securityContext"]["runAsNonRoot"] is True
    assert template["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["image"] == STEPS_IMAGE and container["resources"]["limits"]


def test_a_command_is_filled_and_its_flags_replaced_without_touching_the_original() -> None:
    one = experiment(parameters=[RATE, EPOCHS])
    assert one.command_for({"learning_rate": "0.01", "epochs": "3"})[-2:] == ["0.01", "3"]
    assert one.argument("--data") == "/mnt/dataset" and one.argument("--none") == ""
    other = check_experiment(one.with_arguments({"--data": "/a b", "--absent": "x", "--backbone": ""}))
    assert other.command[:4] == ("python", "trial.py", "--data", "/a b")
    assert one.argument("--data") == "/mnt/dataset"


def test_flags_with_an_equals_sign_and_in_args_are_found_too() -> None:
    content = document()
    container = primary_container(content)
    container["args"] = ["--data=/old", container["command"].pop()]
    container["command"] = ["python", "trial.py"]
    replaced = check_experiment(check_experiment(content).with_arguments({"--data": "/new"}))
    assert replaced.argument("--data") == "/new" and replaced.command[2] == "--data=/new"


def test_two_searches_are_told_apart_by_all_but_their_budget() -> None:
    assert experiment().digest == experiment(maxTrialCount=9, parallelTrialCount=2, maxFailedTrialCount=1).digest
    assert experiment().digest != experiment(algorithm={"algorithmName": "tpe"}).digest


def test_values_that_count_follow_the_strategy() -> None:
    objective = experiment().objective
    assert objective.value("validation_accuracy", [0.1, 0.9, 0.5]) == 0.9
    assert objective.value("validation_loss", [0.3, 0.2, 0.4]) == 0.2
    latest = [{"name": "validation_accuracy", "value": "latest"}]
    spec = {**document()["spec"]["objective"], "metricStrategies": latest}
    assert experiment(objective=spec).objective.value("validation_accuracy", [0.1, 0.9, 0.5]) == 0.5


def _space(**space: Any) -> Callable[[Any], None]:
    return lambda d: d["spec"]["parameters"][0]["feasibleSpace"].update(space)


def _spec(**parts: Any) -> Callable[[Any], None]:
    return lambda d: d["spec"].update(parts)


def _parameter(**parts: Any) -> Callable[[Any], None]:
    return lambda d: d["spec"]["parameters"][0].update(parts)


def _template(**parts: Any) -> Callable[[Any], None]:
    return lambda d: d["spec"]["trialTemplate"].update(parts)


def _container(**parts: Any) -> Callable[[Any], None]:
    return lambda d: primary_container(d).update(parts)


OBJECTIVE = document()["spec"]["objective"]
BAD: list[tuple[str, Callable[[Any], Any], str]] = [
    ("kind", lambda d: d.update(kind="Trial"), "kind is Trial, not Experiment"),
    ("version", lambda d: d.update(apiVersion="v1"), "apiVersion is v1: Katib's is kubeflow.org/v1beta1"),
    ("name", lambda d: d["metadata"].update(name="Toy_1"), "metadata.name 'Toy_1' is no name"),
    ("long name", lambda d: d["metadata"].update(name="a" * 32), "at most 31 characters"),
    ("unquoted", _space(min=0.0001), r"spec.parameters\[0\].feasibleSpace.min has the bare number 0.0001: put it in"),
    ("unquoted list", _parameter(parameterType="discrete", feasibleSpace={"list": ["1", 2]}), "list has the bare"),
    ("unquoted setting", _spec(algorithm={"algorithmName": "tpe", "algorithmSettings": [
        {"name": "random_state", "value": 1}]}), "random_state: 1; give each a name and a value in quotes"),
    ("min > max", _space(min="0.2"), "min 0.2 is more than max 0.1: swap them"),
    ("no number", _space(min="low"), "feasibleSpace.min of learning_rate is low: give a number"),
    ("step 0", _space(step="0"), "feasibleSpace.step of learning_rate is 0"),
    ("log of 0", _space(min="0", distribution="logUniform"), "logUniform needs a min above 0"),
    ("distribution", _space(distribution="cauchy"), "distribution is cauchy: give uniform, logUniform"),
    ("list and range", _space(list=["1"]), "has min and max, not a list"),
    ("range of choices", _parameter(parameterType="discrete"), "a discrete parameter has a list"),
    ("type", _parameter(parameterType="float"), "parameterType is float: give double, int"),
    ("fraction in int", _parameter(name="epochs", parameterType="int", feasibleSpace={"min": "1", "max": "2.5"}),
     "feasibleSpace.max of epochs is 2.5: give a number that fits int"),
    ("unknown to the recipe", _parameter(name="lr"), "hyper-parameter 'lr' is unknown: choose from learning_rate"),
    ("out of the recipe's range", _space(max="7"), "learning_rate is 7: give a number from"),
    ("twice", lambda d: d["spec"]["parameters"].append(RATE), "has learning_rate more than once"),
    ("no parameters", _spec(parameters=[]), "spec.parameters is missing"),
    ("algorithm", _spec(algorithm={"algorithmName": "annealing"}),
     "'annealing' is unknown: choose tpe, random, grid, which run on one machine too, or multivariate-tpe"),
    ("no algorithm", _spec(algorithm=None), "spec.algorithm.algorithmName is missing"),
    ("setting", _spec(algorithm={"algorithmName": "tpe", "algorithmSettings": [
        {"name": "n_startup_trials", "value": "3"}]}), "tpe has no setting 'n_startup_trials': it knows gamma"),
    ("setting value", _spec(algorithm={"algorithmName": "tpe", "algorithmSettings": [
        {"name": "gamma", "value": "much"}]}), "setting gamma of algorithm tpe is much"),
    ("random state", _spec(algorithm={"algorithmName": "random", "algorithmSettings": [
        {"name": "random_state", "value": "-1"}]}), "random_state is -1: give a whole number"),
    ("no objective", _spec(objective=None), "spec.objective is missing"),
    ("no metric", _spec(objective={"type": "maximize"}), "spec.objective.objectiveMetricName is missing"),
    ("objective type", _spec(objective={**OBJECTIVE, "type": "most"}), "type is most: give maximize or minimize"),
    ("metric twice", _spec(objective={**OBJECTIVE, "additionalMetricNames": ["validation_accuracy"]}), "repeats the"),
    ("strategy", _spec(objective={**OBJECTIVE, "metricStrategies": [{"name": "f1", "value": "max"}]}), "has f1: max"),
    ("no budget", _spec(maxTrialCount=None), "spec.maxTrialCount is missing"),
    ("parallel", _spec(parallelTrialCount=4), r"parallelTrialCount is 4: give 1 to maxTrialCount \(3\)"),
    ("failed", _spec(maxFailedTrialCount=4), "maxFailedTrialCount is 4"),
    ("text for a count", _spec(maxTrialCount="3"), "spec.maxTrialCount: input should be a valid integer, not '3'"),
    ("misspelt", _spec(maxTrialsCount=3), "spec.maxTrialsCount is no field that Katib or Kubernetes knows"),
    ("misspelt in the pod", _container(comand=["x"]), r"containers\[0\].comand is no field"),
    ("env as number", _container(env=[{"name": "A", "value": 1}]), r"env\[0\].value: input should be a valid string"),
    ("stopping", _spec(earlyStopping={"algorithmName": "luck"}), "earlyStopping.algorithmName is luck"),
    ("stopping setting", _spec(earlyStopping={"algorithmName": "medianstop", "algorithmSettings": [
        {"name": "start_step", "value": "0"}]}), "medianstop has start_step: 0"),
    ("collector", _spec(metricsCollectorSpec={"collector": {"kind": "Push"}}), "kind is Push: trials print"),
    ("format", _spec(metricsCollectorSpec={"source": {"filter": {"metricsFormat": ["("]}}}), "no regular expression"),
    ("groups", _spec(metricsCollectorSpec={"source": {"filter": {"metricsFormat": ["(a)"]}}}), "it needs two"),
    ("no container name", _template(primaryContainerName=None), "primaryContainerName is missing"),
    ("wrong container", _template(primaryContainerName="main"), "primaryContainerName is 'main', but trialSpec has no"),
    ("not a job", _template(trialSpec={"kind": "Pod", "apiVersion": "v1", "spec": {}}), "trialSpec is a Pod"),
    ("no command", _container(command=None), "container trial of trialSpec has no command"),
    ("wrong reference", _template(trialParameters=[{"name": "learning_rate", "reference": "lr"}]), "refers to lr"),
    ("undeclared", _container(command=["a", "${trialParameters.x}"]), "x}, which trialParameters lacks"),
    ("unused", _container(command=["a"]), "does not use .*learning_rate"),
    ("idle", lambda d: d["spec"]["parameters"].append(EPOCHS), "parameter epochs is searched, but no trialParameters"),
    ("grid without step", _spec(algorithm={"algorithmName": "grid"}), "learning_rate has no step"),
    ("small grid", lambda d: (_spec(algorithm={"algorithmName": "grid"})(d), _space(step="0.09")(d)),
     r"the grid has 2 points, fewer than spec.maxTrialCount \(3\)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_each_mistake_is_one_sentence_that_names_the_file(
    tmp_path: Path, change: Callable[[Any], Any], message: str
) -> None:
    content = deepcopy(document())
    change(content)
    file = written(tmp_path, content)
    with pytest.raises(InputError, match=message) as caught:
        read_experiment(file)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "is not YAML"), ("", "kind is NoneType"), ("- a", "kind is list"), ("kind: 3", "kind is 3")],
)
def test_what_is_no_experiment_at_all(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_experiment(text)


def test_a_file_that_is_not_there_or_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml cannot be read"):
        read_experiment(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bad\.yaml cannot be read"):
        read_experiment(tmp_path / "bad.yaml")


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in items for place in _places(part, (*path, key)))]


def test_whatever_stands_in_a_place_only_a_sentence_comes_out() -> None:
    whole = document(earlyStopping={"algorithmName": "medianstop", "algorithmSettings": []})
    for *way, last in _places(whole)[1:]:
        values: list[Any] = [None, 3, -1, 0.5, "x", "", True, [], {}, ["x"], [{}], [None], {"a": 1}]
        for value in values:
            content = deepcopy(whole)
            holder = content
            for key in way:
                holder = holder[key]
            holder[last] = value
            try:
                check_experiment(content)
            except InputError as error:
                assert "\n" not in str(error)
