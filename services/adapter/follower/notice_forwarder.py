"""Forwards the change notices of a follower to the leader, through the inbox."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Final

import structlog

from services.adapter import metrics
from services.adapter.state.events import EventBuffer
from services.core.errors import StoreError
from services.core.inbox import Inbox
from services.core.notices import ChangeNotice
from services.core.retry import Backoff, LogOnce
from services.core.telemetry.logs import unexpected_error_message

log = structlog.get_logger()
_PAUSE_SECONDS: Final = 0.5
"""Between two writes, so that a stream of events is a few objects a second for the leader to read."""
_MAX_PAUSE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Sent:
    """Notices that could not be written, and why."""

    unsent: tuple[ChangeNotice, ...] = ()
    problem: str = ""


@dataclass(slots=True)
class NoticeForwarder:
    """Writes change notices to the inbox in another thread, all in one object, at most one at a time.

    Those that cannot be written go back to the buffer, merged by project, and are tried again.
    """

    inbox: Inbox
    events: EventBuffer
    executor: Executor
    _due_at: float = 0.0
    _sending: tuple[int, Future[_Sent]] | None = None
    """The number of notices on their way."""
    _backoff: Backoff = field(default_factory=lambda: Backoff(_PAUSE_SECONDS, _MAX_PAUSE_SECONDS))
    _problem: LogOnce = field(default_factory=LogOnce)

    def step(self, now: float, *, in_batches: bool) -> None:
        """Take up what was written, and start to write what has come since.

        `in_batches`: False if the leader is of an earlier release, which reads one object per project.
        """
        self._take(now)
        is_due = now >= self._due_at or now < self._due_at - _MAX_PAUSE_SECONDS  # the clock was set back
        if self._sending is None and is_due and (notices := self.events.collect()):
            self._due_at = now + _PAUSE_SECONDS
            work = self.executor.submit(self._send, notices, now, in_batches=in_batches)
            self._sending = (len(notices), work)
            self._take(now)

    def _take(self, now: float) -> None:
        if self._sending is None or not self._sending[1].done():
            return
        (count, work), self._sending = self._sending, None
        sent = work.result()
        dropped = self.events.give_back(sent.unsent) if sent.unsent else 0
        metrics.count_change_notices(stored=count - len(sent.unsent), lost=dropped)
        if sent.problem:
            self._due_at = now + self._backoff.next()
            if self._problem.is_new(sent.problem):
                log.warning("change_notices_not_forwarded", notices=count, reason=sent.problem)
        elif self._problem.resolved():
            self._backoff.succeeded()

    def _send(self, notices: list[ChangeNotice], now: float, *, in_batches: bool) -> _Sent:
        left = notices
        try:
            if in_batches:
                self.inbox.add_notices(notices, now)
            else:
                while left:
                    self.inbox.add_notice(left[0])
                    left = left[1:]
        except Exception as error:  # noqa: BLE001  # none is lost, and the table is followed whatever happens here
            reason = str(error) if isinstance(error, StoreError) else unexpected_error_message(error)
            return _Sent(tuple(left), reason)
        return _Sent()
