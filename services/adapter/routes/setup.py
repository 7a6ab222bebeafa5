"""/health, /setup and /versions, which Label Studio calls before every task that it shows: answered from memory.

`access_token` and `hostname` of /setup are ignored: the first is a person's token, the second often wrong.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import Response

from services import __version__
from services.adapter.ports import EventSink
from services.adapter.routes.auth import BASE_PATH
from services.adapter.routes.bodies import (
    NotReady,
    json_response,
    parse_project_id,
    read_object,
)
from services.adapter.state.board import Board, ProjectView
from services.core.errors import BadRequest
from services.core.settings import TrainingSettings
from services.core.settings.parameters import parse_parameters

log = structlog.get_logger()
UNTRAINED: Final = "untrained"
_MAX_PROJECTS: Final = 1000
"""Projects whose rejected parameters are kept for their status."""


@dataclass(frozen=True, slots=True)
class SetupRoutes:
    """Routes that connect Label Studio."""

    board: Board
    events: EventSink
    training: TrainingSettings
    rejected: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Problems of /setup's extra_params, by project, for their status."""

    async def health(self, _: Request) -> Response:
        """Answer that the process is up."""
        return json_response({"status": "UP", "model_class": "Fitloop", "version": __version__})

    async def setup(self, request: Request) -> Response:
        """Answer with the project's served version. Raises BadRequest, NotReady."""
        body = await read_object(request)
        number = parse_project_id(body.get("project"))
        if number is None:
            raise BadRequest(
                'The body needs "project": Label Studio\'s id of the project, as "5.1795473352".'
            )
        structlog.contextvars.bind_contextvars(project=number)
        self._remember(number, body, request)
        if not self.board.ready.is_set():
            raise NotReady
        view = self.board.view(number)
        if view is None:
            self.events.notify(number, "SETUP")
        return json_response(
            {"model_version": (view.served.effective_version(time.time()) if view else None) or UNTRAINED}
        )

    async def versions(self, request: Request) -> Response:
        """List versions of one project, newest first: of the one that `?project=` names, or of the only one. Raises BadRequest.

        Label Studio names none and shows the answer to every user; for several projects the list is empty, since names of versions
        say what other teams work on.
        """
        views, wanted = self.board.views, request.query_params.get("project")
        number = next(iter(views)) if wanted is None and len(views) == 1 else parse_project_id(wanted)
        if wanted is not None and number is None:
            raise BadRequest("?project= must be Label Studio's id of a project.")
        view = None if number is None else self.board.view(number)
        return json_response({"versions": _version_names(view) if view else []})

    def _remember(self, number: int, body: Mapping[str, Any], request: Request) -> None:
        """Label Studio always sends extra_params, null for none; other callers may omit them."""
        if "extra_params" not in body:
            self.events.remember_setup(number, None, backend_url(request))
            return
        overrides, problems = parse_parameters(body["extra_params"], self.training)
        if tuple(problems) != self.rejected.get(number, ()):
            # Only how many: the messages repeat what was sent, and are in the status.
            log.warning("extra_parameters_rejected", project=number, problems=len(problems))
            if len(self.rejected) >= _MAX_PROJECTS:
                self.rejected.clear()
            self.rejected[number] = tuple(problems)
        self.events.remember_setup(number, overrides, backend_url(request))


def _version_names(view: ProjectView) -> list[str]:
    """Return the names of the published versions; the served ones are among them, however old they are."""
    served = view.served
    names = (*view.version_names, served.target, served.current, served.previous)
    return [name for name in dict.fromkeys(names) if name]


def backend_url(request: Request) -> str:
    """Return the backend's URL as Label Studio uses it: scheme, host and base path, without credentials and secret path."""
    host = request.headers.get("host") or request.url.netloc
    return f"{request.scope['scheme']}://{host}{request.scope.get(BASE_PATH, '')}"
