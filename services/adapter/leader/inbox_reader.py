"""Reads the inbox in the leader's thread, a bounded part of it each time, and has workers delete what was handled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from services.adapter.leader.workers import Workers
from services.core.inbox import Inbox, InboxContents

_MAX_READ: Final = 64
"""Objects that one tick reads: each costs CPU, too, and thousands may wait."""
_READERS: Final = 16
"""Threads that read objects, when there are many new ones: the leader's thread waits for them."""
_CLEANERS: Final = 4
"""Threads that delete handled objects in the background."""


class InboxReader:
    """The inbox of one term. Only the leader's thread may call it."""

    def __init__(self, inbox: Inbox, workers: Workers) -> None:
        self.has_more = False
        """Whether there are objects that were not read yet."""
        self._inbox = inbox
        self._workers = workers
        self._notice_keys: tuple[str, ...] = ()
        self._readers = ThreadPoolExecutor(_READERS, "inbox")
        self._cleaners = ThreadPoolExecutor(_CLEANERS, "inbox-clean")

    def read(self) -> InboxContents:
        """Return what waits, as far as it was read. Raises StoreError."""
        contents = self._inbox.read(self._readers, _MAX_READ)
        self._notice_keys, self.has_more = contents.notice_keys, contents.left > 0
        return contents

    def clean(self) -> None:
        """Have what was handled deleted. The next call repeats what failed."""
        if keys := [*self._notice_keys, *self._inbox.answered_keys]:
            work = partial(self._inbox.delete_handled, keys, self._cleaners)
            self._workers.submit("inbox", work, lambda _: None)

    def close(self) -> None:
        """Stop all threads, without waiting for them."""
        for executor in (self._readers, self._cleaners):
            executor.shutdown(wait=False, cancel_futures=True)
