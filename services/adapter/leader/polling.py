"""Has workers poll Label Studio for one project, unless Label Studio as a whole does not answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from services.adapter.leader.context import ReconcilerContext
from services.adapter.leader.workers import Finished
from services.adapter.training.label_reader import Reading
from services.adapter.training.planner import Planner
from services.core.domain import Command

_PROBE_SECONDS: Final = 5.0
"""Between two looks at whether Label Studio answers again, while another project's poll tries it."""


class LabelPolling:
    """The polls of one project, at most one at a time. Only the leader's thread may call it."""

    def __init__(self, project_id: int, planner: Planner, context: ReconcilerContext) -> None:
        self.problem = ""
        """Why the last poll failed, or none is made; "" otherwise."""
        self._project_id = project_id
        self._planner = planner
        self._context = context
        self._key = ("poll", project_id)
        self._finished: Finished[Reading | None] | None = None

    def due_at(self) -> float:
        """Return when the next poll is due; infinity while one is in flight."""
        return float("inf") if self._context.workers.is_busy(self._key) else self._planner.due_at()

    def take(self) -> Finished[Reading | None] | None:
        """Return the result of a poll, once."""
        finished, self._finished = self._finished, None
        return finished

    def start_if_due(self, trains: Sequence[Command], overrides: Mapping[str, str], now: float) -> None:
        """Give a poll to a worker, if one is due and none in flight."""
        workers, breaker = self._context.workers, self._context.breaker
        if workers.is_busy(self._key) or not self._planner.is_due(trains, now):
            return
        if not breaker.allow(now):
            self._planner.schedule.postpone(max(breaker.backoff.until, now + _PROBE_SECONDS))
            self.problem = self._context.label_studio_problem
            return
        work = self._planner.start_poll(trains, overrides, now)
        workers.submit(self._key, work, partial(self._done, now))

    def _done(self, began: float, finished: Finished[Reading | None]) -> None:
        reader, context = self._planner.reader, self._context
        self._finished, self.problem = finished, reader.problem
        if reader.is_unreachable:
            context.label_studio_problem = reader.problem
            context.breaker.failed(max(began, context.clock()))
        else:
            context.breaker.succeeded()
        context.queue.add(self._project_id, began)
