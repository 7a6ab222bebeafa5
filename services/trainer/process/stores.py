"""The run's store, with patience for one that is away for a while; and one that writes nothing, for ranks that do not lead.

What waits here is what the run cannot go on without: manifests, snapshot, versions. Status, log and checkpoints are written
without patience: training goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar, cast

import structlog

from services.core.errors import StoreError
from services.core.store import ObjectStore
from services.core.store.wrapped import CHANGES, WrappedStore
from services.core.telemetry.metrics import StoreOperation
from services.trainer.process.lifecycle import Stop

RETRY_SECONDS = 600.0
_MAX_PAUSE = 20.0
T = TypeVar("T")
log = structlog.get_logger()


class RetryingStore(WrappedStore):
    """An ObjectStore that tries again for ten minutes what may pass, until the process is asked to end."""

    def __init__(
        self, store: ObjectStore, stop: Stop, seconds: float = RETRY_SECONDS, pause: float = 0.5
    ) -> None:
        super().__init__(store)
        self.stop, self.seconds, self.pause = stop, seconds, pause

    def around(self, operation: StoreOperation, call: Callable[[], T]) -> T:  # noqa: ARG002  # any kind alike
        return retry_store(call, self.stop, self.seconds, self.pause)


class ReadOnlyStore(WrappedStore):
    """An ObjectStore whose writes do nothing: rank 0 does them."""

    def around(self, operation: StoreOperation, call: Callable[[], T]) -> T:
        return cast("T", None) if operation in CHANGES else call()


def retry_store(work: Callable[[], T], stop: Stop, seconds: float, pause: float = 0.5) -> T:
    """What `work` gives, once the store lets it; its last StoreError after `seconds`. Raises Preempted, RunOutOfTime."""
    until = time.monotonic() + seconds
    while True:
        try:
            return work()
        except StoreError as error:
            if not error.transient or stop.requested or time.monotonic() > until:
                raise
            log.warning("the store is waited for", reason=str(error), seconds=pause)
        stop.wait(pause)
        pause = min(2 * pause, _MAX_PAUSE)
