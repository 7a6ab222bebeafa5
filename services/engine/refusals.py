"""What could not be loaded lately: remembered for a minute, so that it is not read again for each request."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from services.core.errors import FitloopError, Overloaded, StoreError

REFUSAL_SECONDS = 60.0
STORE_ERROR_SECONDS = 2.0
"""For which a transient store error is remembered."""
_Key = TypeVar("_Key", bound=Hashable)


class Refusals(Generic[_Key]):
    """Recent errors by key. Not thread-safe: its owner has a lock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._errors: dict[_Key, tuple[float, FitloopError]] = {}

    def add(self, key: _Key, error: FitloopError) -> None:
        """Remember an error, unless it says nothing about what was loaded."""
        if not isinstance(error, Overloaded):
            self._errors[key] = (self._clock(), error)

    def forget(self, key: _Key) -> None:
        """Allow another attempt."""
        self._errors.pop(key, None)

    def check(self, key: _Key) -> None:
        """Raise the key's error if it is recent."""
        if error := self.current().get(key):
            # A new one: raising the same error again would keep every frame.
            raise type(error)(str(error))

    def current(self) -> dict[_Key, FitloopError]:
        """Return the recent errors, and forget all others."""
        now = self._clock()
        self._errors = {
            key: (since, error)
            for key, (since, error) in self._errors.items()
            if now - since < _seconds(error)
        }
        return {key: error for key, (_, error) in self._errors.items()}


def _seconds(error: FitloopError) -> float:
    is_transient = isinstance(error, StoreError) and error.transient
    return STORE_ERROR_SECONDS if is_transient else REFUSAL_SECONDS
