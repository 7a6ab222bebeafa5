"""POST /webhook: Label Studio's events. It waits one second for an answer and never retries.

An event becomes a change notice; its payload is neither stored nor logged, because it holds secrets. START_TRAINING is a
person's request, stored as a command before the response.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import Response

from services.adapter import metrics
from services.adapter.metrics import EventOutcome
from services.adapter.ports import EventSink
from services.adapter.routes.bodies import ListSplitter, json_response, parse_project_id, run_by_size
from services.adapter.routes.logins import label_studio_requester
from services.core.domain import Action, Command
from services.core.errors import BadRequest, StoreError
from services.core.http.limits import read_chunks, reservation_of
from services.core.inbox import command_id
from services.core.telemetry import tracing

log = structlog.get_logger()
MAX_EVENT_BYTES: Final = 256 << 20
"""Bytes of an event, which may hold 5,000 tasks; little of it is kept in memory."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Route of /webhook."""

    events: EventSink

    async def webhook(self, request: Request) -> Response:
        """Accept an event. Raises BadRequest, StoreError."""
        try:
            event = await _read(request)
        except BadRequest:
            metrics.count_event(None, EventOutcome.MALFORMED)
            raise
        action, project_id = event.get("action"), parse_project_id(event.get("project"))
        if project_id is None:
            return self._ignored(action, EventOutcome.NO_PROJECT)
        structlog.contextvars.bind_contextvars(project=project_id)
        if action == "START_TRAINING":
            return await self._train(project_id, label_studio_requester(request))
        if action not in metrics.EVENT_ACTIONS:
            return self._ignored(action, EventOutcome.UNKNOWN_ACTION)
        self.events.notify(project_id, str(action))
        metrics.count_event(action, EventOutcome.NOTED)
        return json_response({"status": "ok"})

    async def _train(self, project_id: int, asked_by: str) -> Response:
        now = time.time()
        command = Command(
            command_id(now),
            project_id,
            Action.TRAIN,
            created_at=now,
            traceparent=tracing.traceparent(),
            asked_by=asked_by,
        )
        try:
            stored = await self.events.submit(command)
        except StoreError:
            metrics.count_event("START_TRAINING", EventOutcome.NOT_STORED)
            raise
        metrics.count_event("START_TRAINING", EventOutcome.STORED)
        return json_response({"status": "ok", "job": stored})

    def _ignored(self, action: Any, outcome: EventOutcome) -> Response:
        metrics.count_event(action, outcome)
        return json_response({"status": "passed over", "reason": outcome.value})


async def _read(request: Request) -> dict[str, Any]:
    """Read the event without its lists, which may hold thousands of tasks. Raises BadRequest, BodyTooLarge."""
    cutter, reservation = ListSplitter(), reservation_of(request)
    async for chunk in read_chunks(request, MAX_EVENT_BYTES):
        await run_by_size(len(chunk), cutter.feed, chunk)
        reservation.release(len(chunk))
    return cutter.envelope()
