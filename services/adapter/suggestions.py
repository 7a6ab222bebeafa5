"""One text's suggestion: whether a task's text is one to read, and what Label Studio is told of its scores. Pure."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

from services.core.domain import LabelSpace
from services.core.labels import build_region, task_text
from services.engine.compute import Scores

LONGEST: Final = 500_000
"""Bytes of a text beyond which it is no text to label: nobody reads it, and a model would see its beginning alone."""
_LOOKED_AT: Final = 1000
_JUNK: Final = 0.1
"""Share of unprintable characters at which a text is taken for bytes of something else."""


def readable(space: LabelSpace, task: object) -> str | None:
    """The task's text, if a person could read and label it."""
    text = task_text(space, task.get("data")) if isinstance(task, dict) else None
    if text is None or len(text) > LONGEST:
        return None
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair: no tokenizer takes it
        return None
    return text if size <= LONGEST and not _is_junk(text[:_LOOKED_AT]) else None


def build(space: LabelSpace, scores: Scores, row: int, version: str) -> dict[str, Any] | None:
    """Label Studio's prediction for a text; None for figures that are none, or a label that the config no longer has."""
    if not is_sound(scores, row):
        return None
    label, probability, score = scores.best(row)
    if label not in space.labels:
        return None
    return {
        "result": [build_region(space, label, min(probability, 1.0))],
        "score": min(score, 1.0),
        "model_version": version,
    }


def is_sound(scores: Scores, row: int) -> bool:
    """Whether these are probabilities; a broken model may give anything. Rounding may pass 1 by a little."""
    probabilities = scores.probabilities[row]
    return bool(probabilities.min() >= 0 and 0 < probabilities.max() < 1.001)  # false for NaN as well


def _is_junk(text: str) -> bool:
    """Bytes of something else, read as text. Characters that join, hide or turn others are parts of a script's spelling."""
    strange = text.count("\N{REPLACEMENT CHARACTER}")
    if not text.isprintable():
        strange += sum(_is_strange(character) for character in text)
    return "\0" in text or strange > _JUNK * len(text)


def _is_strange(character: str) -> bool:
    """Control characters, halves of pairs, and what no version of Unicode that this Python knows has named."""
    return unicodedata.category(character) in {"Cc", "Cs", "Cn"} and not character.isspace()
