"""Which texts are predicted: those that a person could read and label. Pure."""

from __future__ import annotations

import unicodedata
from typing import Final

from services.core.domain import LabelSpace
from services.core.labels.text import task_text

MAX_TEXT_BYTES: Final = 500_000
"""Bytes of the longest text to predict: people do not read longer ones, and a model only sees their beginning."""
_INSPECTED_CHARACTERS: Final = 1000
_MAX_UNPRINTABLE_SHARE: Final = 0.1
"""Share of unprintable characters above which a text counts as binary data."""


def readable_text(space: LabelSpace, task: object) -> str | None:
    """Return the task's text if a person could read and label it, else None."""
    text = task_text(space, task.get("data")) if isinstance(task, dict) else None
    if text is None or len(text) > MAX_TEXT_BYTES:
        return None
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # a lone surrogate: no tokenizer accepts it
        return None
    return text if size <= MAX_TEXT_BYTES and not _is_binary(text[:_INSPECTED_CHARACTERS]) else None


def _is_binary(text: str) -> bool:
    """Whether the text is binary data. Characters that join, hide or turn others are part of a script's spelling."""
    unprintable = text.count("\N{REPLACEMENT CHARACTER}")
    if not text.isprintable():
        unprintable += sum(_is_unprintable(character) for character in text)
    return "\0" in text or unprintable > _MAX_UNPRINTABLE_SHARE * len(text)


def _is_unprintable(character: str) -> bool:
    """Whether a character is a control character, a surrogate, or unassigned."""
    return unicodedata.category(character) in {"Cc", "Cs", "Cn"} and not character.isspace()
