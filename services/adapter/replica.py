"""One adapter process among several: its thread runs the controller while it leads, and follows the leader otherwise.

Losing the lead, the store, or the API that grants the lead never ends the process. Each term starts with a new controller
that reads everything from the store. A replica that leads and cannot do its work resigns, so that one that can leads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from services.adapter import metrics
from services.adapter.follower import Follower
from services.adapter.leader.controller import Controller
from services.adapter.liveness import Heartbeat, TermHealth
from services.adapter.ports import Leadership
from services.adapter.state.documents import NotLeading
from services.core.errors import FitloopError, StoreError
from services.core.retry import Backoff, LogOnce
from services.core.telemetry.logs import safe_traceback, unexpected_error_message

log = structlog.get_logger()
_RETRY_SECONDS: Final = 0.5
_MAX_RETRY_SECONDS: Final = 4.0
_ERROR_SECONDS: Final = 5.0
_SPACING_SECONDS: Final = 0.05
"""Between the starts of two ticks at least, so that one takes the results of many workers."""
_CLOCK_TOLERANCE: Final = 5.0
"""Seconds by which the clock may go back without consequences."""
_STOP_SECONDS: Final = 10.0
"""How long the current tick may take to end: Label Studio may be slow to answer."""


class Replica:
    """Leads or follows."""

    def __init__(
        self,
        leadership: Leadership,
        new_controller: Callable[[], Controller],
        follower: Follower,
        wakeup: threading.Event,
        clock: Callable[[], float] = time.time,
        *,
        write_seconds: float = 0.0,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        """`new_controller` builds the controller of a new term; `wakeup` is set when there is something to do.

        `write_seconds`: the longest time that one change of the store may take. `heartbeat`: of this replica's thread; whatever the
        thread does that may take long beats as it proceeds. Nothing runs yet.
        """
        self.leadership = leadership
        self.controller: Controller | None = None
        """The controller of this term, while this process leads."""
        self._new_controller = new_controller
        self._follower = follower
        self._clock = clock
        self._write_seconds = write_seconds
        self._wakeup = wakeup
        self._heartbeat = heartbeat or Heartbeat()
        self._health = TermHealth()
        self._last_tick_at = 0.0
        self._store_problem = LogOnce()
        self._backoff = Backoff(_RETRY_SECONDS, _MAX_RETRY_SECONDS)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread and return at once. Raises Locked if this process must lead and cannot."""
        self.leadership.start(self._lead_changed, self._is_working)
        self._follower.start(self._clock())
        self._thread = threading.Thread(target=self._loop, name="replica", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current tick, and give up the lead. Runs continue until their launcher is closed."""
        self._stopping.set()
        self._wakeup.set()
        if self._thread:
            self._thread.join(_STOP_SECONDS)
        self._end_term(wait=True)
        self.leadership.stop()

    def tick(self, now: float) -> float:
        """Lead or follow; return the seconds until the next tick. Raises StoreError."""
        self._heartbeat.beat()
        leads = self.leadership.leads(self._write_seconds)
        if self._clock_went_back(now):
            log.warning("clock_set_back", reason="everything is read again")
            self._follow(now)
        if leads:
            return self._lead(now)
        metrics.set_leading(now=False)
        if self.controller and self.leadership.leads():
            return _RETRY_SECONDS  # still ours: the API is slow, and a new term would read everything again
        if self.controller:
            self._step_down(now, "another adapter leads, or none does")
        return self._follower.tick(now)

    def _lead(self, now: float) -> float:
        """Take the controller's tick; start a term before, unless one has started. Raises StoreError."""
        try:
            wait = (self.controller or self._begin_term(now)).tick(now)
        except NotLeading as error:
            self._step_down(now, str(error))
            return _RETRY_SECONDS
        except Exception as error:
            self._tick_failed(now, error)
            raise
        self._health.succeeded(self._clock())
        metrics.set_leading(now=self.leadership.leads())  # the lead may have been lost during the tick
        return wait

    def _begin_term(self, now: float) -> Controller:
        self._health.begin(now)
        self.controller = controller = self._new_controller()
        controller.start()
        log.info("leading", reason="this replica became the leader")
        return controller

    def _tick_failed(self, began: float, error: Exception) -> None:
        """Resign if ticks have failed for too long: another replica may reach what this one does not."""
        metrics.set_leading(now=False)
        wait = self._health.failed(began, self._clock())
        if wait is None:
            return
        reason = str(error) if isinstance(error, FitloopError) else unexpected_error_message(error)
        log.error("leader_resigned", reason=reason, retry_seconds=wait)
        self.leadership.resign(wait)
        self._follow(began)

    def _lead_changed(self) -> None:
        """Wake this replica's thread, which may hang: then this thread reports that the lead is lost. Called from any thread."""
        if not self.leadership.leads():
            metrics.set_leading(now=False)
            self._follower.board.is_leader = False
        self._wakeup.set()

    def _is_working(self) -> bool:
        return not self._heartbeat.is_silent()

    def _clock_went_back(self, now: float) -> bool:
        """Return whether the machine's clock was set back: whatever is scheduled would otherwise wait for the difference as well."""
        before, self._last_tick_at = self._last_tick_at, now
        return now < before - _CLOCK_TOLERANCE

    def _step_down(self, now: float, reason: str) -> None:
        log.warning("no_longer_leading", reason=reason)
        self._follow(now)

    def _follow(self, now: float) -> None:
        self._end_term(wait=False)
        self._follower.start(now)

    def _end_term(self, *, wait: bool) -> None:
        if self.controller:
            self.controller.resign(wait=wait)
        self.controller = None

    def _store_failed(self, reason: str) -> float:
        """Log a new problem and return the seconds until the next tick."""
        if self._store_problem.is_new(reason):
            log.error("store_unavailable", reason=reason)
        self._follower.board.store_problem = reason
        return self._backoff.next()

    def _store_worked(self) -> None:
        if self._store_problem.resolved():
            log.info("store_available")
        self._backoff.succeeded()
        if self.controller:  # a follower reports its store problems itself
            self._follower.board.store_problem = ""

    def _loop(self) -> None:
        self._heartbeat.own()
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                wait = self.tick(self._clock())
                self._store_worked()
            except StoreError as error:
                wait = self._store_failed(str(error))
            except Exception as error:  # noqa: BLE001  # a bug must not end the thread that serves all projects
                log.error("tick_error", frames=safe_traceback(error))
                wait = _ERROR_SECONDS
            self._heartbeat.beat()
            if self._wakeup.wait(wait) and wait:
                self._stopping.wait(max(0.0, began + _SPACING_SECONDS - time.monotonic()))
            self._wakeup.clear()
