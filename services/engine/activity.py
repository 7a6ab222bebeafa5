"""Which encoders are asked for, in memory or not: what would have to fit at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.engine.loading import EncoderKey

WINDOW_SECONDS: Final = 300.0
"""For which an encoder counts as active after a request for it."""


class Activity:
    """The encoders that were asked for lately, and their bytes where they are known."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asked: dict[EncoderKey, float] = {}
        self._sizes: dict[EncoderKey, int] = {}

    def ask(self, key: EncoderKey) -> None:
        """Note a request."""
        self._asked[key] = self._clock()

    def measure(self, key: EncoderKey, size: int) -> None:
        """Note how many bytes an encoder has."""
        self._sizes[key] = size

    def total(self) -> tuple[int, int]:
        """Return how many encoders are active, and their bytes; forget the others."""
        since = self._clock() - WINDOW_SECONDS
        self._asked = {key: asked for key, asked in self._asked.copy().items() if asked > since}
        self._sizes = {key: size for key, size in self._sizes.copy().items() if key in self._asked}
        return len(self._asked), sum(self._sizes.values())
