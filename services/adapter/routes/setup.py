"""What Label Studio asks before every task that it shows: /health, /setup and /versions. From memory, and at once.

/setup's `access_token` and `hostname` are not used: the one is a person's token, the other is often wrong.
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
    run_store_read,
)
from services.adapter.routes.version_cache import VersionCache
from services.adapter.state.board import Board
from services.core.errors import BadRequest
from services.core.settings import TrainingSettings
from services.core.settings.parameters import parse_parameters

log = structlog.get_logger()
UNTRAINED: Final = "untrained"
_MAX_PROJECTS: Final = 1000
"""Projects whose refused parameters are kept to be shown."""


@dataclass(frozen=True, slots=True)
class SetupRoutes:
    """The routes."""

    board: Board
    events: EventSink
    cache: VersionCache
    training: TrainingSettings
    rejected: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """By project: what of /setup's extra_params was not taken, for the status."""

    async def health(self, _: Request) -> Response:
        """The process answers."""
        return json_response({"status": "UP", "model_class": "Fitloop", "version": __version__})

    async def setup(self, request: Request) -> Response:
        """The version that the project serves."""
        said = await read_object(request)
        number = parse_project_id(said.get("project"))
        if number is None:
            raise BadRequest(
                'The body needs "project": Label Studio\'s id of the project, as "5.1795473352".'
            )
        structlog.contextvars.bind_contextvars(project=number)
        self._remember(number, said, request)
        if not self.board.ready.is_set():
            raise NotReady("Fitloop is still reading its state: ask again in a few seconds.")
        view = self.board.view(number)
        if view is None:
            self.events.notify(number, "SETUP")
        return json_response(
            {"model_version": (view.served.effective_version(time.time()) if view else None) or UNTRAINED}
        )

    async def versions(self, request: Request) -> Response:
        """All versions, newest first: Label Studio does not say of which project."""
        wanted = request.query_params.get("project")
        number = None if wanted is None else parse_project_id(wanted)
        if wanted is not None and number is None:
            raise BadRequest("?project= must be Label Studio's id of a project.")
        keys = [view.project.key for key, view in self.board.views.items() if number is None or key == number]
        found = await run_store_read(self.cache.manifests, keys)
        return json_response({"versions": [manifest.version for manifest in found]})

    def _remember(self, number: int, said: Mapping[str, Any], request: Request) -> None:
        """Label Studio always names extra_params, null for none; who does not says nothing about them."""
        if "extra_params" not in said:
            self.events.remember(number, None, backend_url(request))
            return
        overrides, problems = parse_parameters(said["extra_params"], self.training)
        if tuple(problems) != self.rejected.get(number, ()):
            # How many, and not which: the sentences repeat what was sent, and stand in the status.
            log.warning("extra parameters were not all taken", project=number, refused=len(problems))
            if len(self.rejected) >= _MAX_PROJECTS:
                self.rejected.clear()
            self.rejected[number] = tuple(problems)
        self.events.remember(number, overrides, backend_url(request))


def backend_url(request: Request) -> str:
    """The backend's URL as Label Studio has it, without credentials and the secret path: scheme, host, and base path."""
    host = request.headers.get("host") or request.url.netloc
    return f"{request.scope['scheme']}://{host}{request.scope.get(BASE_PATH, '')}"
