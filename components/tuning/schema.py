"""The schema of an Experiment: field names, types and quotes."""

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from predictor.errors import InputError

# For values such as 4Gi or "50%" the package has wrapper classes; the document keeps the plain text.
_SCALARS = ("IoK8sApimachineryPkgApiResourceQuantity", "IoK8sApimachineryPkgUtilIntstrIntOrString")


def check_quoted_numbers(document: Mapping[str, Any]) -> None:
    """Check that numbers of the search space are text: YAML reads a bare 0.1 as a number, which Katib refuses."""
    spec = document.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    parameters = spec.get("parameters")
    for index, parameter in enumerate(parameters if isinstance(parameters, list) else []):
        space = parameter.get("feasibleSpace") if isinstance(parameter, dict) else None
        values = space.items() if isinstance(space, dict) else ()
        for name, value in values:
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, int | float):
                    raise InputError(
                        f"spec.parameters[{index}].feasibleSpace.{name} has the bare number {item}: put it in quotes, "
                        "as Katib wants text there"
                    )
    for part in ("algorithm.algorithmSettings", "earlyStopping.algorithmSettings"):
        outer, inner = part.split(".")
        settings = spec[outer].get(inner) if isinstance(spec.get(outer), dict) else None
        for setting in settings if isinstance(settings, list) else []:
            if isinstance(setting, dict) and not (setting.get("name") and isinstance(setting.get("value"), str)):
                raise InputError(
                    f"spec.{part} has {setting.get('name')}: {setting.get('value')}; give each a name and a value in "
                    "quotes, as Katib wants text there"
                )


def check_schema(value: Any, model: type[BaseModel], path: str) -> None:
    """Check types and field names of a part of the document against the model of Katib's or Kubernetes' API."""
    try:
        model.model_validate(value)
    except ValidationError as error:
        first = next((e for e in error.errors() if (e.get("ctx") or {}).get("class_name") not in _SCALARS), None)
        if first is None:
            return
        place = path + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])
        raise InputError(f"{place.strip('.')}: {first['msg'].lower()}, not {first['input']!r}") from None
    for unknown in _unknown(value, model, path):
        raise InputError(f"{unknown.strip('.')} is no field that Katib or Kubernetes knows: fix the name")


def _unknown(value: Any, model: type[BaseModel], path: str) -> Iterator[str]:
    fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    if not isinstance(value, Mapping) or list(fields) == ["actual_instance"]:
        return
    for name, part in value.items():
        if name not in fields:
            yield f"{path}.{name}"
        elif inner := _model_in(fields[name]):
            many = isinstance(part, list)
            for index, item in enumerate(part if many else [part]):
                yield from _unknown(item, inner, f"{path}.{name}" + (f"[{index}]" if many else ""))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and not typing.get_origin(annotation):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list):
        return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)
    return None
