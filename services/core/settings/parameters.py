"""Parsing of run parameters: names and texts, checked against the fields of `Parameters`. Pure.

They come from /setup's extra_params, the command line and the adapter's API. Their types are those of `TrainingSettings`, so
that a parameter and its environment variable never differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from services.core.domain import Method, Parameters
from services.core.errors import BadRequest
from services.core.settings.training import TrainingSettings

PARAMETER_NAMES = tuple(field.name for field in fields(Parameters))
BASE_MODEL = "base_model"
MODEL = "model"
EACH_N_UPDATES = "start_training_each_n_updates"
"""A project setting that is not a run parameter."""
CONTROL_IS_PER_PROJECT = (
    "The control to train on is set for a project, not for a run: set `control` in the backend's extra parameters, in "
    "FITLOOP_PROJECTS or in FITLOOP_CONTROLS."
)
_MOST_CHARACTERS = 300


def parse_parameters(
    raw: object, training: TrainingSettings | None = None
) -> tuple[dict[str, str], list[str]]:
    """Return the usable parameters of an object (or of its JSON), and a message for each unusable one.

    `training` restricts the base models. None, "" and {} are empty objects. Messages repeat values of known
    names only: others may be secrets.
    """
    try:
        given = _object(raw)
    except BadRequest as error:
        return {}, [str(error)]
    valid: dict[str, str] = {}
    problems = []
    for name, value in given.items():
        try:
            text = _checked_text(name, value)
            if training is not None and name == BASE_MODEL:
                training.check_allowed(text)
            if training is not None and name == MODEL:
                training.check_allowed_model(text)
            valid[name] = text
        except BadRequest as error:
            problems.append(str(error))
    return valid, problems


def parse_project_settings(raw: object) -> dict[int, dict[str, str]]:
    """Parse settings of single projects: an object of objects, or its JSON. Raises ValueError that names the first wrong one."""
    try:
        return {
            _project_id(key): {
                name: _project_setting(key, name, value)
                for name, value in _project_object(key, given).items()
            }
            for key, given in _object(raw).items()
        }
    except BadRequest as error:
        raise ValueError(str(error)) from error


def parse_controls(raw: object) -> str | dict[int, str]:
    """Parse which controls to learn: names separated by commas, or an object with one per project. Raises ValueError."""
    text = raw.strip() if isinstance(raw, str) else raw
    try:
        if isinstance(text, str) and not text.startswith("{"):
            return text and _checked_text("control", text)
        return {_project_id(key): _checked_text("control", name) for key, name in _object(text).items()}
    except BadRequest as error:
        example = '"topic", "topic,intent" or {"5": "topic"}'
        raise ValueError(f"{error} Give names of controls of label configs, such as {example}.") from error


def parse_run_parameters(
    raw: object, training: TrainingSettings | None = None
) -> tuple[dict[str, str], list[str]]:
    """Parse parameters of one run, without `control`: a version for another control than the project's would never be served."""
    valid, problems = parse_parameters(raw, training)
    return {name: text for name, text in valid.items() if name != "control"}, [
        *problems,
        *([CONTROL_IS_PER_PROJECT] if "control" in valid else []),
    ]


def apply_overrides(
    parameters: Parameters, overrides: Mapping[str, str], training: TrainingSettings | None = None
) -> Parameters:
    """Return `parameters` with the overrides applied. Raises BadRequest that names the first wrong one.

    `training` restricts the base models, and the classes to those of `parameters`, which the operator chose, and allowed ones.
    """
    if training is not None and BASE_MODEL in overrides:
        training.check_allowed(overrides[BASE_MODEL])
    found = replace(parameters, **{name: _parse_value(name, text) for name, text in overrides.items()})
    if MODEL in overrides and not found.is_own_model:
        raise BadRequest(
            f"Parameter model needs method {Method.LABEL_STUDIO_ML.value}, and the method is {found.method.value}: set that, or "
            "omit model."
        )
    if found.is_own_model and not found.model:
        raise BadRequest(
            f"Method {Method.LABEL_STUDIO_ML.value} needs a model: set FITLOOP_MODEL, or the parameter model, to package.module:Class."
        )
    is_chosen = parameters.is_own_model and parameters.model == found.model
    if training is not None and found.model and found.is_own_model and not is_chosen:
        training.check_allowed_model(found.model)
    return found


def _project_id(key: object) -> int:
    text = str(key)
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(f"{text[:40]!r} is not a project id in Label Studio: it must be a number.")
    return int(text)


def _project_object(project: str, given: object) -> Mapping[str, object]:
    if not isinstance(given, Mapping):
        raise BadRequest(
            f'Settings of project {project} must be a JSON object, such as {{"method": "finetune"}}.'
        )
    return given


def _project_setting(project: str, name: str, value: object) -> str:
    text = str(value)
    try:
        if name != EACH_N_UPDATES:
            return _checked_text(name, value)
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise BadRequest(f"{EACH_N_UPDATES} cannot be {text[:40]!r}: it must be a whole number from 1.")  # noqa: TRY301  # as `_text` does
    except BadRequest as error:
        raise BadRequest(f"Project {project}: {error}") from error
    return text


def _object(raw: object) -> Mapping[str, object]:
    message = 'Parameters must be a JSON object, such as {"method": "finetune"}.'
    try:
        found = json.loads(raw.strip() or "null") if isinstance(raw, str) else raw
    except (ValueError, RecursionError) as error:
        raise BadRequest(message) from error
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise BadRequest(message)
    return found


def _checked_text(name: str, value: object) -> str:
    """Return the value as text once it is known to be valid."""
    if name in PARAMETER_NAMES and (isinstance(value, bool) or not isinstance(value, str | int | float)):
        raise BadRequest(f"Parameter {name} must be text or a number.")
    text = str(value) if name in PARAMETER_NAMES else ""
    _parse_value(name, text)
    return text.strip() if name == "control" else text


def _parse_value(name: str, text: str) -> Any:
    if name not in PARAMETER_NAMES:
        raise BadRequest(f"{name[:40]!r} is not a run parameter: choose one of {', '.join(PARAMETER_NAMES)}.")
    if not text.strip() or len(text) > _MOST_CHARACTERS or not text.isprintable():
        raise BadRequest(f"Parameter {name} must be a text of 1 to {_MOST_CHARACTERS} printable characters.")
    try:
        value = _adapters()[name].validate_python(text)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadRequest(f"Parameter {name} cannot be {text!r}: {message}.") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRequest(f"Parameter {name} cannot be {text!r}: it must be a finite number.")
    return value


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    settings = TrainingSettings.model_fields
    found = {
        name: TypeAdapter(settings[name].rebuild_annotation()) for name in PARAMETER_NAMES if name in settings
    }
    return {"seed": TypeAdapter(Annotated[int, Field(ge=0, lt=2**32)]), "control": TypeAdapter(str), **found}
