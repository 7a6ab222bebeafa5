"""Tracebacks of unexpected errors for the log: frames and the failing line of source, without the message.

Messages of libraries repeat their input, which may be a text or a token; a line of source states the reason and contains
neither. Only messages of libraries that compute on numbers are kept.
"""

from __future__ import annotations

import linecache
import traceback

_MAX_CHARACTERS = 240

_TEXT_FREE_LIBRARIES = ("/torch/", "/transformers/models/", "/transformers/modeling_")
"""Paths of libraries that process ids and weights, and no text."""


def safe_traceback(error: BaseException) -> list[str]:
    """The error's type and its frames, outermost first, the last with its statement; then the same of what caused it."""
    found: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        frames = traceback.extract_tb(cause.__traceback__)
        found.append(type(cause).__name__ + _message(cause, frames))
        found += [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        if frames:
            found[-1] += _statement(frames[-1])
        cause = cause.__cause__ or cause.__context__
    return found


def _statement(frame: traceback.FrameSummary) -> str:
    first = frame.lineno or 0
    last = frame.end_lineno or first
    lines = [linecache.getline(frame.filename, number).strip() for number in range(first, last + 1)]
    source = " ".join(filter(None, lines))[:_MAX_CHARACTERS]
    return f": {source}" if source else ""


def _message(error: BaseException, frames: traceback.StackSummary) -> str:
    if not frames or not any(part in frames[-1].filename for part in _TEXT_FREE_LIBRARIES):
        return ""
    return ": " + " ".join(str(error).split())[:_MAX_CHARACTERS]


def unexpected_error_sentence(error: BaseException) -> str:
    """For people."""
    return f"Fitloop failed unexpectedly ({type(error).__name__}): its log says where. It tries again."
