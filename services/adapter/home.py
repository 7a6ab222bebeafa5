"""GET /: JSON for programs, a page for browsers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services import __version__
from services.adapter.api import Api
from services.adapter.bodies import NotReady, json_response
from services.adapter.pages import HEADERS, prefers_html, status_page
from services.core.errors import StoreError


@dataclass(frozen=True, slots=True)
class Home:
    """The routes."""

    api: Api

    async def index(self, request: Request) -> Response:
        """Label Studio and others that take anything get JSON."""
        vary = {"Vary": "Accept"}
        if prefers_html(request.headers.get("accept", "")):
            return HTMLResponse(await to_thread.run_sync(self._page), headers={**HEADERS, **vary})
        ready = self.api.board.ready.is_set()
        projects = (
            [{"id": row["id"], "served": row["served"]["current"]} for row in self.api.summaries()]
            if ready
            else []
        )
        found: dict[str, Any] = {
            "status": "UP",
            "model_class": "Fitloop",
            "version": __version__,
            "ready": ready,
        }
        return json_response({**found, "projects": projects}, headers=vary)

    def _page(self) -> str:
        try:
            rows = self.api.summaries()
        except NotReady as error:
            return status_page([], str(error))
        try:
            views = [self.api.board.view(row["id"]) for row in rows]
            return status_page([self.api.detail(view) for view in views if view])
        except StoreError as error:
            return status_page(rows, str(error))
