"""The status page: all projects, one project, one version; JSON at / for programs. Banners say what is wrong for all projects."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from services import __version__
from services.adapter.pages import page_response, prefers_html, render
from services.adapter.pages.formatting import timestamp
from services.adapter.ports import Inference
from services.adapter.routes.actions import ACTIONS_DISABLED
from services.adapter.routes.api import Api
from services.adapter.routes.auth import RefusedEvents
from services.adapter.routes.bodies import NotReady, json_response, run_store_read
from services.adapter.routes.page_data import PageData, is_finished
from services.adapter.routes.same_origin import FormTokens
from services.adapter.state.board import Board, ProjectView
from services.core.labelstudio.access import AUTH_ADVICE, missing_token_message
from services.core.settings import Settings

_CHECK_SECONDS: Final = 10.0

_WAIT_SECONDS: Final = 0.02
"""How long a page waits for the answer; later, it shows the previous one."""

_SHOWN_SECONDS: Final = 3600.0
"""How long a banner reports a refused event."""

NO_PREDICTORS: Final = (
    "No predictor responds, so annotators get no suggestions: `kubectl get pods` shows why, and "
    "`fitloop doctor` checks the whole installation."
)

STORE_UNAVAILABLE: Final = (
    "Suggestions continue and this page shows the last known state, but nothing is trained or changed until the storage responds. "
    "`fitloop doctor` checks the whole installation."
)


@dataclass(slots=True)
class Banners:
    """Collects the banners."""

    settings: Settings
    inference: Inference
    refusals: RefusedEvents
    board: Board
    _predictors_ready: bool = True
    _checked_at: float = 0.0
    _checking: asyncio.Task[None] | None = field(default=None, repr=False)

    async def current(self) -> list[str]:
        """Return messages that say what to do, the most severe first."""
        await self._check_predictors()
        found = []
        if trouble := self.board.store_problem:
            found.append(f"{trouble.rstrip('.')}. {STORE_UNAVAILABLE}")
        if not self.settings.label_studio.api_key.get_secret_value():
            found.append(missing_token_message(self.settings.label_studio.url))
        if not self._predictors_ready:
            found.append(NO_PREDICTORS)
        if time.time() - self.refusals.last_at < _SHOWN_SECONDS:
            found.append(
                f"Events of Label Studio were refused, most recently at {timestamp(self.refusals.last_at)}: its webhooks carry no "
                f"password. {AUTH_ADVICE}"
            )
        return found

    async def _check_predictors(self) -> None:
        """Ask every few seconds whether predictors respond; a slow answer is for the next page."""
        if self._checking is None and time.monotonic() - self._checked_at >= _CHECK_SECONDS:
            self._checking = asyncio.create_task(self._update_ready())
        if self._checking is not None:
            await asyncio.wait({self._checking}, timeout=_WAIT_SECONDS)

    async def _update_ready(self) -> None:
        try:
            self._predictors_ready = await self.inference.ready()
        finally:
            self._checked_at, self._checking = time.monotonic(), None


BUSY_SECONDS = 2
"""Between two polls of an open page while a run is active."""

IDLE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class StatusPages:
    """Routes of the status page."""

    api: Api
    page_data: PageData
    banners: Banners
    tokens: FormTokens
    settings: Settings

    async def index(self, request: Request) -> Response:
        """Answer with a page for browsers, and JSON for Label Studio and other programs."""
        if prefers_html(request.headers.get("accept", "")):
            banners = await self.banners.current()
            return page_response(await run_store_read(self._index, request, banners))
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
        return json_response({**found, "projects": projects}, headers={"Vary": "Accept"})

    async def project(self, request: Request) -> Response:
        view = self.api.view_of(request)
        return page_response(await run_store_read(self._project, request, view))

    async def version(self, request: Request) -> Response:
        view = self.api.view_of(request)
        return page_response(await run_store_read(self._version, request, view))

    def _index(self, request: Request, banners: list[str]) -> str:
        ready = True
        try:
            cards = self.page_data.cards()
        except NotReady as error:
            cards, banners, ready = [], [str(error)], False
        is_busy = not ready or any(card.view.active for card in cards)
        return self._render(
            "index.html",
            request,
            pace=BUSY_SECONDS if is_busy else IDLE_SECONDS,
            cards=cards,
            banners=banners,
            ready=ready,
            encoders=self.page_data.encoders() if ready else (),
            advice=AUTH_ADVICE,
        )

    def _project(self, request: Request, view: ProjectView) -> str:
        shown = self.page_data.project(view, all_rows="all" in request.query_params)
        asked = request.query_params.get("asked", "")
        return self._render(
            "project.html",
            request,
            pace=BUSY_SECONDS if view.active or asked else IDLE_SECONDS,
            shown=shown,
            card=shown.card,
            finished=is_finished(shown.run),
            asked=asked,
            closed=ACTIONS_DISABLED,
        )

    def _version(self, request: Request, view: ProjectView) -> str:
        card, row, evaluated = self.page_data.version(view, request.path_params["version"])
        return self._render("version.html", request, pace=0, card=card, row=row, evaluated=evaluated)

    def _render(self, template: str, request: Request, **values: Any) -> str:
        settings = self.settings.label_studio
        return render(
            template,
            request,
            label_studio=settings.public_url or settings.url,
            may_act=bool(self.tokens),
            **values,
        )
