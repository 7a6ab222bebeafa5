"""What was not read of the texts, in words: for reports, versions, the status and the doctor. Pure."""

from __future__ import annotations

from typing import Final

from services.core.domain import Truncation
from services.core.uncounted import plural

_STEP: Final = 64
_MAX_LENGTH: Final = 8192
"""What FITLOOP_MAX_LENGTH may be."""


def truncation_sentence(found: Truncation | None) -> str:
    """How many texts were cut, and what reading more of them takes; "" where none was, or it is not known."""
    if found is None or not found.cut:
        return ""
    were = "was" if found.cut == 1 else "were"
    said = (
        f"{found.cut} of {plural(found.texts)} {were} cut at {found.max_length} tokens, and what stands behind is not read; "
        f"the longest has {found.longest}."
    )
    return f"{said} {_length_advice(found)}"


def required_length(found: Truncation) -> int:
    """Tokens that would read every text, in steps of 64, as far as the model and the setting allow."""
    steps = -(-found.longest // _STEP) * _STEP
    return min(steps, _MAX_LENGTH, found.most or _MAX_LENGTH)


def _length_advice(found: Truncation) -> str:
    length = required_length(found)
    if length <= found.max_length:
        limit = "the base model reads no more" if found.most else "FITLOOP_MAX_LENGTH can be no more"
        return f"That is all, since {limit}: set BASELINE_MODEL_NAME to one of more positions, or shorten the texts."
    rest = "all of it" if length >= found.longest else "as much as the base model can"
    return (
        f"FITLOOP_MAX_LENGTH={length} would read {rest}, and take about {found.cost:.1f} times the computing, in training and for "
        "suggestions."
    )
