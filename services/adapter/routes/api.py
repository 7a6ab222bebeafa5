"""/api: projects, their versions and runs as JSON, and commands.

A command is stored before the response; the leader handles it. All reads of the registry run in threads.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import Response

from services.adapter.pages.formatting import has_enough_texts
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
from services.adapter.routes.version_cache import VersionCache
from services.adapter.state.board import Board, ProjectView, effective_served
from services.core.documents import to_plain
from services.core.domain import Action, Command, Estimate, Manifest, RunStatus, Served
from services.core.errors import BadRequest
from services.core.inbox import command_id
from services.core.labels.uncounted import truncation_message as truncation_in_words
from services.core.labels.uncounted import uncounted_message
from services.core.runs import Runs
from services.core.settings.parameters import parse_run_parameters
from services.core.telemetry import tracing

MAX_LOG_LINES: Final = 200
"""Lines shown of a run's log."""

PROJECT_ACTIONS: Final = tuple(action for action in Action if action is not Action.GC)


def project_summary(view: ProjectView, now: float, rejected: Sequence[str] = ()) -> dict[str, Any]:
    """Return a project's state now; `rejected` are problems of the extra_params given to /setup."""
    found: dict[str, Any] = to_plain(replace(view, served=effective_served(view.served, now)))
    project = found.pop("project")
    del project["format"]
    return {
        **project,
        **found,
        "problem": " ".join(filter(None, (view.problem, *rejected))),
        "not_counted_in_words": uncounted_message(
            view.not_counted, view.space.from_name if view.space else ""
        ),
    }


def version_summary(manifest: Manifest, served: Served) -> dict[str, Any]:
    """Return a version with its accuracy, gate decision and role; `served` is in effect now."""
    is_served = manifest.version == served.current
    return {
        "version": manifest.version,
        "method": manifest.method.value,
        "created_at": manifest.created_at,
        "labels": list(manifest.labels),
        "texts": manifest.lineage.texts,
        "run": manifest.lineage.run,
        "base_model": manifest.lineage.base_model,
        "engine": manifest.artefact.engine,
        "estimate": to_plain(manifest.estimate),
        "right": accuracy_text(manifest.estimate),
        "gate": to_plain(manifest.gate),
        "reasons": list(manifest.gate.reasons),
        "truncation_in_words": truncation_in_words(manifest.truncation),
        "served": is_served,
        "previous": manifest.version == served.previous,
        "pinned": is_served and served.pinned,
        "why": served.why if is_served else "",
    }


def run_summary(status: RunStatus, log: str, waiting: str = "") -> dict[str, Any]:
    """Return a run with its status, why it waits, and the end of its log."""
    return {**to_plain(status), "waiting": waiting, "log": log.splitlines()[-MAX_LOG_LINES:]}


def accuracy_text(estimate: Estimate) -> str:
    """Return "16 of 34 (47 %, 95 % interval 33–61 %), an estimate, usually low"."""
    if not has_enough_texts(estimate):
        return f"{estimate.right} of {estimate.judged}: too few labels to tell"
    percent = 100 * estimate.right / estimate.judged
    interval = f"95 % interval {100 * estimate.low:.0f}–{100 * estimate.high:.0f} %"
    return f"{estimate.right} of {estimate.judged} ({percent:.0f} %, {interval}), an estimate, usually low"


@dataclass(frozen=True, slots=True)
class Api:
    """Routes below /api, and what the pages read through them."""

    board: Board
    events: EventSink
    versions: VersionCache
    runs: Runs
    setup: SetupRoutes
    inference: Inference

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
        served = effective_served(view.served, time.time())
        versions = [version_summary(manifest, served) for manifest in found]
        return {**self.summary(view), "versions": versions, "runs": runs}

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
