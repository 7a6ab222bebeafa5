"""Suggestions: read a task's text, and turn its scores into Label Studio's prediction. Pure."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

from services.core.domain import LabelSpace
from services.core.labels import build_region, task_text
from services.engine.compute import Scores

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


def build_prediction(space: LabelSpace, scores: Scores, row: int, version: str) -> dict[str, Any] | None:
    """Return Label Studio's prediction; None for scores that are no probabilities, or a label that the config no longer has."""
    if not are_probabilities(scores, row):
        return None
    label, probability, score = scores.best(row)
    if label not in space.labels:
        return None
    return {
        "result": [build_region(space, label, min(probability, 1.0))],
        "score": min(score, 1.0),
        "model_version": version,
    }


def are_probabilities(scores: Scores, row: int) -> bool:
    """Whether a row holds probabilities: a broken model may return anything, and rounding may exceed 1 a little."""
    probabilities = scores.probabilities[row]
    return bool(probabilities.min() >= 0 and 0 < probabilities.max() < 1.001)  # false for NaN as well


def _is_binary(text: str) -> bool:
    """Whether the text is binary data. Characters that join, hide or turn others are part of a script's spelling."""
    unprintable = text.count("\N{REPLACEMENT CHARACTER}")
    if not text.isprintable():
        unprintable += sum(_is_unprintable(character) for character in text)
    return "\0" in text or unprintable > _MAX_UNPRINTABLE_SHARE * len(text)


def _is_unprintable(character: str) -> bool:
    """Whether a character is a control character, a surrogate, or unassigned."""
    return unicodedata.category(character) in {"Cc", "Cs", "Cn"} and not character.isspace()
