"""Values of a task as the editor's language has them: looked up by a path, and made strings. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

_MAX_SAFE_INTEGER: Final = 2**53 - 1
"""Beyond it the editor's numbers are no longer exact."""
_MIN_DECIMAL: Final = 1e-6
_MISSING: Final = object()


def resolve_path(data: Mapping[str, Any], path: str) -> Any:
    """The value at `name`, `a.b` or `a[0].b`; something that `is_missing` says is none."""
    if path in data:
        return data[path]
    if not any(sign in path for sign in ".[]"):
        return _MISSING
    value: Any = data
    for step in _steps(path):
        value = _property(value, step)
    return value


def is_missing(value: object) -> bool:
    """Whether there was nothing to look up."""
    return value is _MISSING


def to_js_string(value: object) -> str:
    """As the editor prints it; nothing for null and for what is missing."""
    if value is None or value is _MISSING:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _number(value)
    return ",".join(map(to_js_string, value)) if isinstance(value, list) else "[object Object]"


def _number(value: float) -> str:
    """Numbers that the editor's language would round are kept as Label Studio wrote them."""
    if isinstance(value, int) or not math.isfinite(value) or abs(value) > _MAX_SAFE_INTEGER:
        return str(value)
    if value == 0:
        return "0"
    if abs(value) >= _MIN_DECIMAL:
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    digits, _, exponent = repr(value).partition("e")
    return f"{digits}e{int(exponent):+d}"


def _steps(path: str) -> list[str]:
    """`a[0].b` to a, 0 and b; a point at the end, as of a sentence, is no step, and one at the beginning is an empty one."""
    steps, step, inside = ([""] if path.startswith(".") else []), "", False
    for sign in path.removeprefix("."):
        if sign == "]" and inside:
            steps.append(step)
            step, inside = "", False
        elif sign in "[." and not inside:
            if step:
                steps.append(step)
            step, inside = "", sign == "["
        else:
            step += sign
    return [*steps, step] if step else steps


def _property(value: object, step: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(step, _MISSING)
    if isinstance(value, list | str):
        if step == "length":
            return len(value)
        if step.isascii() and step.isdigit() and step == str(int(step[:18])) and int(step) < len(value):
            return value[int(step)]
    return _MISSING
