"""The text that Label Studio's editor shows for a task. Pure.

The rules are the editor's, with one exception: for a variable without a value the editor shows `undefined` or `null`; here
it is empty.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from services.core.domain import LabelSpace
from services.core.labels.markup import visible_text

_MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The largest integer that JavaScript represents exactly."""

_MIN_DECIMAL: Final = 1e-6

_MISSING: Final = object()


def resolve_path(data: Mapping[str, Any], path: str) -> Any:
    """Return the value at `name`, `a.b` or `a[0].b`; a marker for which `is_missing` is true if there is none."""
    if path in data:
        return data[path]
    if not any(sign in path for sign in ".[]"):
        return _MISSING
    value: Any = data
    for step in _steps(path):
        value = _property(value, step)
    return value


def is_missing(value: object) -> bool:
    """Return whether `resolve_path` found nothing."""
    return value is _MISSING


def to_js_string(value: object) -> str:
    """Convert a value to a string as the editor does; null and missing values become ""."""
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
    """Format a number; those that JavaScript would round stay as Label Studio wrote them."""
    if isinstance(value, int) or not math.isfinite(value) or abs(value) > _MAX_SAFE_INTEGER:
        return str(value)
    if value == 0:
        return "0"
    if abs(value) >= _MIN_DECIMAL:
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    digits, _, exponent = repr(value).partition("e")
    return f"{digits}e{int(exponent):+d}"


def _steps(path: str) -> list[str]:
    """Split `a[0].b` into a, 0 and b. A trailing point, as of a sentence, is no step; a leading one is an empty step."""
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


_VARIABLE: Final = re.compile(r"\$([\w[\].{}]+)", re.ASCII)
"""ASCII only, as the editor's own expression."""

_UNDEFINED: Final = "$undefined$"
"""Key of a text that was imported without a name, before the config defines one."""

_BLANK: Final = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})


def task_text(space: LabelSpace, data: object) -> str | None:
    """Return the text that the object tag shows for a task; None if there is none, or nothing visible in it."""
    if not isinstance(data, Mapping):
        return None
    names = _VARIABLE.findall(space.text_value)
    if not names:
        return None
    if space.text_tag == "Paragraphs":
        whole = _VARIABLE.fullmatch(space.text_value)
        text = _paragraphs(_value(data, names[0]), space.text_attributes) if whole else None
    else:
        text = _decode(_substitute(space.text_value, data), space.text_attributes.get("encoding", ""))
    if text and space.text_tag == "HyperText":
        text = visible_text(text)
    return text if text and not is_blank(text) else None


def text_key(text: str) -> str:
    """Return 64 hex digits that are the same for texts that are equal after NFC and trimming, and for no others."""
    same = unicodedata.normalize("NFC", text.strip())
    return hashlib.sha256(f"fitloop1 text {same}".encode(errors="surrogatepass")).hexdigest()


def is_blank(text: str) -> bool:
    """Return whether the text has no visible character."""
    return all(character.isspace() or unicodedata.category(character) in _BLANK for character in text)


def _substitute(value: str, data: Mapping[str, Any]) -> str | None:
    """Replace the variables. Return None if none has a value: the rest is the config's, and the same for every task."""
    filled = [to_js_string(_value(data, name)) for name in _VARIABLE.findall(value)]
    if all(map(is_blank, filled)):
        return None
    remaining = iter(filled)
    return _VARIABLE.sub(lambda _: next(remaining), value)


def _value(data: Mapping[str, Any], name: str) -> Any:
    found = resolve_path(data, name)
    return data.get(_UNDEFINED) if is_missing(found) else found


def _decode(text: str | None, encoding: str) -> str | None:
    """Decode as the editor does: `base64` to one character per byte, `base64unicode` from UTF-8."""
    if text is None or encoding not in {"base64", "base64unicode"}:
        return text
    letters = re.sub(r"[\t\n\f\r ]", "", text)
    bare = re.sub(r"={1,2}$", "", letters) if len(letters) % 4 == 0 else letters
    try:
        found = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
        return found.decode("utf-8" if encoding == "base64unicode" else "latin-1")
    except (binascii.Error, ValueError):
        return None


def _paragraphs(value: object, attributes: Mapping[str, str]) -> str | None:
    """Return author and text of each paragraph, on lines of their own. The editor looks for both keys in the first one only."""
    keys = attributes.get("namekey", "author"), attributes.get("textkey", "text")
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    if not isinstance(value[0], Mapping) or any(key not in value[0] for key in keys):
        return None
    rows = [row for row in value if isinstance(row, Mapping)]
    lines = [[_rendered(row.get(key)) for key in keys] for row in rows]
    if all(is_blank(text) for _, text in lines):
        return None
    return "\n".join(part for line in lines for part in line if part)


def _rendered(value: object) -> str:
    """Return what the editor renders for a value between two tags."""
    if isinstance(value, bool | Mapping):
        return ""
    if isinstance(value, list):
        return "".join(map(_rendered, value))
    return to_js_string(value)
