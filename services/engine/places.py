"""Places in the queue of texts, and what one project may have of them."""

from __future__ import annotations

from collections import Counter
from typing import Final

from services.core.errors import Overloaded
from services.engine import metrics

SHARE: Final = 7
"""A project may have this many times the places that then stay free: alone 7/8 of all, beside another one 7/15 each."""


class Places:
    """Counts the queued texts of each project. Not thread-safe: its owner has a lock.

    The rule leaves places for a project that comes later, however many texts the others queue, and none is set aside while
    nobody else asks ("dynamic thresholds" in the switches of networks).
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_project: Counter[str] = Counter()
        self.taken = 0

    def take(self, project_key: str, texts: int) -> None:
        """Take places for these texts. Raises Overloaded; an empty queue accepts any number."""
        if not texts:
            return
        left, own = self._limit - self.taken - texts, self._by_project[project_key] + texts
        if self.taken and (left < 0 or own > SHARE * left):
            metrics.count_rejection("queue_full")
            whose = "" if left < 0 else f", {own - texts} of them of this project"
            raise Overloaded(
                f"{self.taken} texts are queued{whose}, of at most {self._limit}: try again in a moment."
            )
        self.taken += texts
        self._by_project[project_key] = own

    def free(self, project_key: str, texts: int = 1) -> None:
        """Give places back."""
        self.taken -= texts
        self._by_project[project_key] -= texts
        if not self._by_project[project_key]:
            del self._by_project[project_key]
