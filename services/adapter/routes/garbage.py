"""/api/gc: delete what is no longer needed, for all projects or one. The leader does it; its report is read from the store."""

from __future__ import annotations

import time
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from services.adapter.ports import EventSink
from services.adapter.routes.bodies import NoSuchResource, json_response, read_object, run_store_read
from services.adapter.routes.logins import requester_of
from services.adapter.state.gc_reports import DRY_RUN, GcReportFile
from services.core.documents import to_plain
from services.core.domain import Action, Command
from services.core.errors import BadRequest
from services.core.inbox import command_id
from services.core.telemetry import tracing


@dataclass(frozen=True, slots=True)
class GarbageRoutes:
    """The command and its report."""

    events: EventSink
    reports: GcReportFile

    async def submit(self, request: Request) -> Response:
        """Store the command and return its id: {"project": 5, "dry_run": true}, both optional. Raises BadRequest, StoreError."""
        body = await read_object(request, may_be_empty=True)
        project_id, dry_run = body.get("project", 0), body.get("dry_run", False)
        if not isinstance(project_id, int) or isinstance(project_id, bool) or project_id < 0:
            raise BadRequest(
                '"project" must be the id of a project in Label Studio; omit it for all projects.'
            )
        if not isinstance(dry_run, bool) or body.keys() - {"project", "dry_run"}:
            raise BadRequest('gc takes "project" and "dry_run", which is true or false, and nothing else.')
        now = time.time()
        parameters = {DRY_RUN: "true"} if dry_run else {}
        command = Command(
            command_id(now),
            project_id,
            Action.GC,
            parameters=parameters,
            created_at=now,
            traceparent=tracing.traceparent(),
            asked_by=requester_of(request),
        )
        return json_response({"command": await self.events.submit(command)})

    async def report(self, request: Request) -> Response:
        """Return what a command has deleted, or would delete. Raises NoSuchResource until it has been carried out, StoreError."""
        command = request.path_params["command"]
        report = await run_store_read(self.reports.find, command)
        if report is None:
            raise NoSuchResource(
                f"There is no report of command {command[:40]!r} (yet): the leader has not carried it out, or "
                "has carried out ten others since."
            )
        return json_response(to_plain(report))
