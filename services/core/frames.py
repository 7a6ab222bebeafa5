"""What a log may say of an error that nobody expected: where it was raised, and never its message.

Messages of libraries hold what they were given, which may be a text or a token.
"""

from __future__ import annotations

import traceback


def frames_of(error: BaseException) -> list[str]:
    """The error's type and its frames, outermost first; then the same of what caused it."""
    found: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        found.append(type(cause).__name__)
        frames = traceback.extract_tb(cause.__traceback__)
        found += [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        cause = cause.__cause__ or cause.__context__
    return found
