"""The store as the leader may change it: each change is made only while the lead surely outlives the write.

What waits in a paused process for the moment at which it goes on would otherwise undo what its successor has written.
Reading is everybody's.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from services.adapter.ports import Leadership
from services.core.errors import StoreError
from services.core.store import ObjectStore
from services.core.store.wrapped import ReadsThrough


class NotLeading(StoreError):
    """This process does not lead, or not for long enough; nothing was written."""

    passing: ClassVar[bool] = True


class GuardedStore(ReadsThrough):
    """An ObjectStore over another one."""

    def __init__(self, store: ObjectStore, leadership: Leadership, write_seconds: float) -> None:
        """`write_seconds`: the longest that one change may take."""
        super().__init__(store)
        self.leadership = leadership
        self.write_seconds = write_seconds

    def write(self, key: str, data: bytes) -> None:
        """Put the object in one step. Raises NotLeading."""
        self._check()
        self.store.write(key, data)

    def upload(self, source: Path, key: str) -> None:
        """Put a local file in one step. Raises NotLeading."""
        self._check()
        self.store.upload(source, key)

    def delete(self, key: str) -> None:
        """Remove the object. Raises NotLeading."""
        self._check()
        self.store.delete(key)

    def _check(self) -> None:
        if not self.leadership.leads(self.write_seconds):
            raise NotLeading("Another adapter leads, or will in a moment: this one writes nothing.")
