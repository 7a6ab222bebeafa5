"""/api: projects, their versions and runs as JSON, and commands.

A command is stored before the response; the leader handles it. All reads of the registry run in threads.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import Response

from services.adapter.ports import EventSink, Inference
from services.adapter.routes.bodies import (
    NoSuchResource,
    NotReady,
    json_response,
    parse_project_id,
    read_object,
    run_store_read,
)
from services.adapter.routes.logins import requester_of
from services.adapter.routes.setup import SetupRoutes
from services.adapter.routes.summaries import project_summary, run_summary, version_summary
from services.adapter.routes.version_cache import VersionCache
from services.adapter.state.board import Board, ProjectView, effective_served
from services.adapter.state.encoder_status import EncoderStatus, EncoderStatusReader
from services.core.documents import to_plain
from services.core.domain import Action, Command, Manifest
from services.core.errors import BadRequest
from services.core.inbox import command_id
from services.core.runs import Runs
from services.core.settings.parameters import parse_run_parameters
from services.core.telemetry import tracing

PROJECT_ACTIONS: Final = tuple(action for action in Action if action is not Action.GC)


@dataclass(frozen=True, slots=True)
class Api:
    """Routes below /api, and what the pages read through them."""

    board: Board
    events: EventSink
    versions: VersionCache
    runs: Runs
    setup: SetupRoutes
    inference: Inference
    encoder_reader: EncoderStatusReader

    async def projects(self, _: Request) -> Response:
        """Return all projects, by id."""
        return json_response({"projects": self.summaries()})

    async def predictors(self, _: Request) -> Response:
        """Say whether predictors can compute predictions, to check an installation; 503 if not."""
        ready = await self.inference.ready()
        return json_response({"ready": ready}, 200 if ready else 503)

    async def project(self, request: Request) -> Response:
        """Return one project with its versions (newest first) and its newest run."""
        view = self.view_of(request)
        return json_response(await run_store_read(self.detail, view))

    async def submit(self, request: Request) -> Response:
        """Store a command and return its id."""
        view = self.view_of(request)
        action = action_of(request.path_params["action"])
        body = await read_object(request, may_be_empty=True)
        parameters = self._parameters(action, body.get("parameters"))
        stored = await self.store(request, view, action, body.get("version"), parameters)
        return json_response({"command": stored})

    async def store(
        self,
        request: Request,
        view: ProjectView,
        action: Action,
        version: object = None,
        parameters: dict[str, str] | None = None,
    ) -> str:
        """Store a command for the leader; return the id under which it is stored. Raises BadRequest, NoSuchResource, StoreError."""
        now = time.time()
        command = Command(
            id=command_id(now),
            project_id=view.project.id,
            action=action,
            version=await self.version_of(view, action, version),
            parameters=parameters or {},
            created_at=now,
            traceparent=tracing.traceparent(),
            asked_by=requester_of(request),
        )
        return await self.events.submit(command)

    def summaries(self) -> list[dict[str, Any]]:
        """Return all projects without their versions. Raises NotReady."""
        self.check_ready()
        views = sorted(self.board.views.values(), key=lambda view: view.project.id)
        return [self.summary(view) for view in views]

    def detail(self, view: ProjectView) -> dict[str, Any]:
        """Return one project with versions and runs; blocking. Raises StoreError."""
        found = self.versions.manifests(view.project.key)
        status = view.active or view.last
        runs = [run_summary(status, self.runs.log(status.run), view.waiting)] if status else []
        served, scores = (
            effective_served(view.served, time.time()),
            self.versions.estimate_scores(view.project.key),
        )
        versions = [
            version_summary(one, served, self.encoder_of(one), scores.get(one.version)) for one in found
        ]
        return {**self.summary(view), "versions": versions, "runs": runs}

    async def encoders(self, _: Request) -> Response:
        """Return all encoders in the bucket, and those that a version needs: size, engine, versions, and what is wrong with each."""
        return json_response(
            {"encoders": list(map(to_plain, await run_store_read(self.encoder_reader.read)))}
        )

    def encoder_of(self, manifest: Manifest) -> EncoderStatus | None:
        """Return what is known of the version's encoder; blocking. Raises StoreError."""
        return self.encoder_reader.find(manifest.encoder) if manifest.encoder else None

    def summary(self, view: ProjectView) -> dict[str, Any]:
        """Return one project, from memory."""
        return project_summary(view, time.time(), self.setup.rejected.get(view.project.id, ()))

    def view_of(self, request: Request) -> ProjectView:
        """Return the project that the path names. Raises NoSuchResource, NotReady."""
        self.check_ready()
        asked = request.path_params["id"]
        number = parse_project_id(asked)
        view = None if number is None else self.board.view(number)
        if view is None:
            raise NoSuchResource(
                f"Fitloop knows no project {asked[:20]!r}: connect it in Label Studio (Settings > Model), or see /api/projects "
                "for the connected ones."
            )
        structlog.contextvars.bind_contextvars(project=view.project.id)
        return view

    def check_ready(self) -> None:
        """Raise NotReady until the state has been read once."""
        if not self.board.ready.is_set():
            raise NotReady

    async def version_of(self, view: ProjectView, action: Action, version: object) -> str | None:
        """Return the version that an action names, if it needs one. Raises BadRequest, NoSuchResource."""
        if version is None and action is not Action.PROMOTE:
            return None
        if not isinstance(version, str) or not version:
            raise BadRequest(f'{action.value} needs "version": the name of one of the project\'s versions.')
        found = await run_store_read(self.versions.manifests, view.project.key)
        known = [manifest.version for manifest in found]
        if version not in known:
            newest = f"; the newest is {known[0]}" if known else ""
            raise NoSuchResource(f"Project {view.project.id} has no version {version[:80]!r}{newest}.")
        return version

    def _parameters(self, action: Action, raw: object) -> dict[str, str]:
        parameters, problems = parse_run_parameters(raw, self.setup.training)
        if problems:
            raise BadRequest(" ".join(problems))
        if parameters and action is not Action.TRAIN:
            raise BadRequest(f"{action.value} takes no parameters: only train does.")
        return parameters


def action_of(name: str) -> Action:
    """Parse the name of an action on one project. Raises NoSuchResource."""
    if name not in PROJECT_ACTIONS:
        raise NoSuchResource(f"{name[:20]!r} is not an action: use one of {', '.join(PROJECT_ACTIONS)}.")
    return Action(name)
