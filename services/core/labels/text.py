"""The text that Label Studio's editor shows for a task. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from services.core.domain import LabelSpace

_VARIABLE = re.compile(r"\$(\w+(?:\.\w+|\[\d+\])*)")
_STEP = re.compile(r"\w+")


def text_of(space: LabelSpace, data: object) -> str | None:
    """The text that the Text tag shows for a task's data; None where there is none to read."""
    if not isinstance(data, Mapping):
        return None
    names = _VARIABLE.findall(space.text_value)
    if not names:
        return None
    values = [_look_up(data, name) for name in names]
    if not all(isinstance(value, str) for value in values):
        return None
    remaining = iter(values)
    text = _VARIABLE.sub(lambda _: str(next(remaining)), space.text_value)
    return text if any(character.isalnum() for character in text) else None


def _look_up(data: Mapping[str, Any], name: str) -> Any:
    if name in data:
        return data[name]
    value: Any = data
    for step in _STEP.findall(name):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
