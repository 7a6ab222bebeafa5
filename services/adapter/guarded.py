"""The store as the leader may change it: each change is made only while the lead surely outlives the write.

What waits in a paused process for the moment at which it goes on would otherwise undo what its successor has written.
Reading is everybody's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeVar

from services.adapter.ports import Leadership
from services.core.errors import StoreError
from services.core.store import ObjectStore
from services.core.store.wrapped import CHANGES, WrappedStore
from services.core.telemetry.metrics import StoreOperation

T = TypeVar("T")


class NotLeading(StoreError):
    """This process does not lead, or not for long enough; nothing was written."""

    transient: ClassVar[bool] = True


class FencedStore(WrappedStore):
    """An ObjectStore over another one, whose changes raise NotLeading unless the lead outlives them."""

    def __init__(self, store: ObjectStore, leadership: Leadership, write_seconds: float) -> None:
        """`write_seconds`: the longest that one change may take."""
        super().__init__(store)
        self.leadership = leadership
        self.write_seconds = write_seconds

    def around(self, operation: StoreOperation, call: Callable[[], T]) -> T:
        if operation in CHANGES and not self.leadership.leads(self.write_seconds):
            raise NotLeading("Another adapter leads, or will in a moment: this one writes nothing.")
        return call()
