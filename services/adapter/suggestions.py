"""One text's suggestion: whether a task's text is one to read, and what Label Studio is told of its scores. Pure."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

from services.core.domain import LabelSpace
from services.core.labels import build_region, task_text
from services.engine.compute import Scores

MAX_TEXT_BYTES: Final = 500_000
"""Bytes of a text beyond which it is no text to label: nobody reads it, and a model would see its beginning alone."""
_INSPECTED_CHARACTERS: Final = 1000
_MAX_UNPRINTABLE_SHARE: Final = 0.1
"""Share of unprintable characters at which a text is taken for bytes of something else."""


def readable_text(space: LabelSpace, task: object) -> str | None:
    """The task's text, if a person could read and label it."""
    text = task_text(space, task.get("data")) if isinstance(task, dict) else None
    if text is None or len(text) > MAX_TEXT_BYTES:
        return None
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair: no tokenizer takes it
        return None
    return text if size <= MAX_TEXT_BYTES and not _is_binary(text[:_INSPECTED_CHARACTERS]) else None


def build_prediction(space: LabelSpace, scores: Scores, row: int, version: str) -> dict[str, Any] | None:
    """Label Studio's prediction for a text; None for figures that are none, or a label that the config no longer has."""
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
    """Whether these are probabilities; a broken model may give anything. Rounding may pass 1 by a little."""
    probabilities = scores.probabilities[row]
    return bool(probabilities.min() >= 0 and 0 < probabilities.max() < 1.001)  # false for NaN as well


def _is_binary(text: str) -> bool:
    """Bytes of something else, read as text. Characters that join, hide or turn others are parts of a script's spelling."""
    strange = text.count("\N{REPLACEMENT CHARACTER}")
    if not text.isprintable():
        strange += sum(_is_unprintable(character) for character in text)
    return "\0" in text or strange > _MAX_UNPRINTABLE_SHARE * len(text)


def _is_unprintable(character: str) -> bool:
    """Control characters, halves of pairs, and what no version of Unicode that this Python knows has named."""
    return unicodedata.category(character) in {"Cc", "Cs", "Cn"} and not character.isspace()
