"""Waiting for a condition, so that no test sleeps for a time that it hopes is enough."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 60.0, every: float = 0.1, what: str = "") -> T:
    """The condition's first truthy value. Fails with its last value after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what or condition}, last {value!r}"
        threading.Event().wait(every)
