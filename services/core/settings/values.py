"""Values of settings as people paste them: what is never meant is taken off, and what may be meant is refused. Pure.

White space, control characters and characters that nobody sees (a byte order mark, a zero-width space) are taken off both
ends of every value. What may stand inside is said by each field's `Inside`; no sentence here repeats a value.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp", "Cs"})
"""Unicode's categories of control and format characters, of blanks, of line ends, and of bytes that are no text."""
_BLANKS: Final = frozenset({"Zs"})
_BREAKS: Final = frozenset({"Cc", "Zl", "Zp", "Cs"})
_QUOTES: Final = frozenset("\"'`")
_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"\n": "a line break", "\r": "a line break", "\t": "a tab", " ": "a blank", "\0": "a NUL character"}
)


class Inside(Enum):
    """What may stand inside a value."""

    WORD = "no white space and nothing that is not seen"
    TOKEN = "as WORD, and ASCII alone: it is sent in a header"  # noqa: S105  # no password
    LINE = "one line"
    LINES = "any white space, as in JSON"
    EXACT = "one line, taken as it is: a blank at an end is refused, since it may be meant and is not sent"


def trim(text: str, inside: Inside = Inside.WORD) -> str:
    """The text without what is never meant at its ends."""
    kept = _BLANKS if inside is Inside.EXACT else frozenset[str]()
    start, end = 0, len(text)
    while start < end and _is_invisible(text[start], kept):
        start += 1
    while start < end and _is_invisible(text[end - 1], kept):
        end -= 1
    found = text[start:end]
    return found if found.strip() else ""


def value_problem(text: str, inside: Inside) -> str:
    """What is wrong inside a trimmed text, without repeating it; "" where nothing is."""
    if inside is Inside.LINES:
        return ""
    if inside is Inside.EXACT and text and (text[0].isspace() or text[-1].isspace()):
        return (
            "it begins or ends with a blank, which Label Studio does not send: take it off, or choose another"
        )
    if inside in {Inside.WORD, Inside.TOKEN} and len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        return "it stands in quotation marks: leave them out"
    never = _BREAKS if inside in {Inside.LINE, Inside.EXACT} else _INVISIBLE
    bad = next((one for one in text if unicodedata.category(one) in never), "")
    if not bad and inside is Inside.TOKEN:
        bad = next((one for one in text if not one.isascii()), "")
    return f"it holds {_character_name(bad)}: paste it again, without that" if bad else ""


def allowed_inside(field: FieldInfo) -> Inside:
    """What the field says of itself; else by its type."""
    said = next((one for one in field.metadata if isinstance(one, Inside)), None)
    if said is not None:
        return said
    if field.annotation is SecretStr:
        return Inside.TOKEN
    return Inside.LINE if _is_path(field) else Inside.WORD


def is_checked(field: FieldInfo) -> bool:
    """Whether any text is taken: a number or one of some words is judged by its type, in a better sentence."""
    return field.annotation in {str, SecretStr, str | None} or _is_path(field)


def _is_path(field: FieldInfo) -> bool:
    return field.annotation in {Path, Path | None}


def _is_invisible(one: str, kept: frozenset[str]) -> bool:
    return unicodedata.category(one) in _INVISIBLE - kept


def _character_name(one: str) -> str:
    known = _NAMES.get(one)
    return known or f"the character U+{ord(one):04X} ({unicodedata.name(one, 'without a name')})"
