"""One adapter among several: its thread supervises while this process leads, and follows the leader otherwise.

Losing the lead, or the store, or the API by which it is held never ends the process. A lead that was won begins with a
new supervisor that reads everything from the store.
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
from services.adapter.ports import Leadership
from services.adapter.state.documents import NotLeading
from services.core.errors import StoreError
from services.core.telemetry.tracebacks import safe_traceback

log = structlog.get_logger()
_RETRY_SECONDS: Final = 0.5
_MAX_RETRY_SECONDS: Final = 4.0
"""Between two tries of a store that does not answer."""
_ERROR_SECONDS: Final = 5.0
_CLOCK_TOLERANCE: Final = 5.0
"""By which a clock may go back without anything that waits for a moment noticing."""
_STOP_SECONDS: Final = 10.0  # for the step that is being taken: Label Studio may let it wait longer


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
    ) -> None:
        """`supervise` makes the supervisor of a new term; `bell` is set when there is something to look at.

        `write_seconds`: the longest that one change of the store may take. Nothing runs yet.
        """
        self.leadership = leadership
        self.controller: Controller | None = None
        """The supervisor of this term, while this process leads."""
        self._new_controller = new_controller
        self._follower = follower
        self._clock = clock
        self._write_seconds = write_seconds
        self._wakeup = wakeup
        self._last_tick_at = 0.0
        self._store_problem = ""
        self._pause = _RETRY_SECONDS
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; returns at once. Raises Locked where the lead must be ours and is not."""
        self.leadership.start(self._wakeup.set)
        self._follower.start(self._clock())
        self._thread = threading.Thread(target=self._loop, name="member", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is being taken, and give the lead back. Runs go on until their launcher is closed."""
        self._stopping.set()
        self._wakeup.set()
        if self._thread:
            self._thread.join(_STOP_SECONDS)
        self._resign(wait=True)
        self.leadership.stop()

    def tick(self, now: float) -> float:
        """Lead or follow; the seconds until the next time. Raises StoreError."""
        leads = self.leadership.leads(self._write_seconds)
        metrics.leads(now=leads)
        if self._clock_went_back(now):
            self._restart(now)
        if not leads:
            if self.controller and self.leadership.leads():
                return _RETRY_SECONDS  # nobody else has it: the API is slow, and a new term would read everything again
            if self.controller:
                self._step_down(now)
            return self._follower.tick(now)
        if self.controller is None:
            self.controller = self._new_controller()
            self.controller.start()
            log.info("leading", reason="it has the lead, and nobody else does")
        try:
            return self.controller.tick(now)
        except NotLeading as error:
            self._step_down(now, str(error))
            return _RETRY_SECONDS

    def _store_failed(self, reason: str) -> float:
        """Said once, and not at each try; the seconds until the next."""
        if reason != self._store_problem:
            log.error("store_unavailable", reason=reason)
        self._store_problem = self._follower.board.store_problem = reason
        pause = self._pause
        self._pause = min(2 * pause, _MAX_RETRY_SECONDS)
        return pause

    def _recovered(self) -> None:
        if self._store_problem:
            log.info("store_available")
        self._store_problem, self._pause = "", _RETRY_SECONDS
        if self.controller:  # a follower says so itself
            self._follower.board.store_problem = ""

    def _clock_went_back(self, now: float) -> bool:
        """Whether the clock of this machine went back: then all that waits for a moment would wait for the way back too."""
        before, self._last_tick_at = self._last_tick_at, now
        return now < before - _CLOCK_TOLERANCE

    def _restart(self, now: float) -> None:
        log.warning("clock_set_back")
        self._resign(wait=False)
        self._follower.start(now)

    def _step_down(self, now: float, reason: str = "another one leads, or none") -> None:
        log.warning("no_longer_leading", reason=reason)
        self._resign(wait=False)
        self._follower.start(now)

    def _resign(self, *, wait: bool) -> None:
        if self.controller:
            self.controller.resign(wait=wait)
        self.controller = None

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                wait = self.tick(self._clock())
                self._recovered()
            except StoreError as error:
                wait = self._store_failed(str(error))
            except Exception as error:  # noqa: BLE001  # a slip of ours must not end the thread that serves all projects
                log.error("tick_error", frames=safe_traceback(error))
                wait = _ERROR_SECONDS
            self._wakeup.wait(wait)
            self._wakeup.clear()
