"""A slip of ours, or a library's, as the log may have it: its kind and place alone, for its message may hold a text or a token."""

from __future__ import annotations

import traceback


def slip(error: BaseException) -> dict[str, str]:
    """`kind` and `place` of an error that nobody foresaw: the last frames, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = (f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    return {"kind": type(error).__name__, "place": " > ".join(places)}


def sentence(error: BaseException) -> str:
    """For people."""
    return f"Fitloop failed unexpectedly ({type(error).__name__}): its log says where. It tries again."
