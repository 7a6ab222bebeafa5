"""A slip of ours, or a library's, as the log may have it: its kind and place alone, for its message may hold a text or a token."""

from __future__ import annotations


def unexpected_error_sentence(error: BaseException) -> str:
    """For people."""
    return f"Fitloop failed unexpectedly ({type(error).__name__}): its log says where. It tries again."
