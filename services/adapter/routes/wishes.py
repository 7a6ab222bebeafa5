"""Train, promote, roll back and the like from a page: asked once more, then stored as a command as the API does.

Only where a password is set, and only by a form of ours: a browser sends a password by itself, whoever asks it to.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.adapter.pages import page_response, render
from services.adapter.pages.questions import Confirmation, build_confirmation
from services.adapter.routes.api import Api, action_of
from services.adapter.routes.bodies import Forbidden, read_body, run_store_read
from services.adapter.routes.same_origin import FormTokens, is_same_origin
from services.adapter.state.board import ProjectView, effective_served
from services.core.domain import Action

CLOSED: Final = (
    "Nothing can be asked for on this page, because no password is set, and so any other page could ask for it as well: "
    "set BASIC_AUTH_USER and BASIC_AUTH_PASS, or use the command line, `fitloop --help`."
)
_ELSEWHERE: Final = (
    "This was not sent by Fitloop's own page, so nothing was done: go back to the project and ask again."
)
_OLD: Final = "This page was open for too long, so nothing was done: go back to the project and ask again."
_MOST: Final = 4096
"""Bytes of a form."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """The routes."""

    api: Api
    tokens: FormTokens

    async def ask(self, request: Request) -> Response:
        """The page that says what will happen, with the form that asks for it."""
        view, action = self._subject(request)
        version = await self.api.version_of(view, action, request.query_params.get("version"))
        asked = await run_store_read(self._question, view, action, version)
        token = self.tokens.issue(_wish(view, action, version), time.time())
        page = render("confirm.html", request, view=view, asked=asked, version=version, token=token)
        return page_response(page)

    async def take(self, request: Request) -> Response:
        """The form: stored before it is answered. Raises Forbidden, BadRequest, Unknown, StoreError."""
        view, action = self._subject(request)
        if not is_same_origin(request.headers):
            raise Forbidden(_ELSEWHERE)
        form = await _form(request)
        version = form.get("version")
        if not self.tokens.is_valid(form.get("token", ""), _wish(view, action, version), time.time()):
            raise Forbidden(_OLD)
        await self.api.store(request, view, action, version)
        return RedirectResponse(f"../{view.project.id}?asked={action.value}", 303)

    def _subject(self, request: Request) -> tuple[ProjectView, Action]:
        action, view = action_of(request.path_params["action"]), self.api.view_of(request)
        if not self.tokens:
            raise Forbidden(CLOSED)
        return view, action

    def _question(self, view: ProjectView, action: Action, version: str | None) -> Confirmation:
        manifest = self.api.catalogue.manifest(view.project.key, version) if version else None
        return build_confirmation(view, effective_served(view.served, time.time()), action, manifest)


def _wish(view: ProjectView, action: Action, version: str | None) -> str:
    return f"{view.project.key} {action.value} {version or ''}"


async def _form(request: Request) -> dict[str, str]:
    body = await read_body(request, _MOST)
    try:
        found = parse_qs(body.decode(), strict_parsing=bool(body), max_num_fields=8)
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items()}
