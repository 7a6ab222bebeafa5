"""The adapter's application with a fake event sink, a fake inference and a registry in a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from starlette.applications import Starlette

from services.adapter.app import create_app
from services.adapter.state.board import Board, ProjectView
from services.core.domain import Project, Served
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import AuthSettings, Settings
from services.core.store.files import FileStore
from tests.support.fakes import SPACE, FakeEventSink, FakeInference


class AppWorld:
    """The application, its fakes and a client; `async with` closes the client."""

    def __init__(
        self,
        folder: Path,
        auth: AuthSettings | None = None,
        *,
        ready: bool = True,
        settings: Settings | None = None,
    ) -> None:
        self.board, self.events, self.inference = Board(), FakeEventSink(), FakeInference()
        store = FileStore(folder)
        self.registry, self.runs = Registry(store), Runs(store)
        given = settings or Settings(auth=auth or AuthSettings(allowed_hosts=("fitloop.test",)))
        is_bare = auth is None and not given.auth.has_credentials
        self.settings = (
            replace(given, auth=AuthSettings(allowed_hosts=("fitloop.test",))) if is_bare else given
        )
        self.app: Starlette = create_app(
            self.settings, self.board, self.events, self.inference, self.registry, self.runs
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=True),
            base_url="http://fitloop.test:9090",
        )
        if ready:
            self.board.ready.set()

    def serve(self, version: str | None = "v-1", **changes: Any) -> ProjectView:
        """Serve that version for project 5."""
        project = Project("5-1795473352", 5, "Reviews <1>", "<View/>", "hash", "2026-11-23T22:35:52Z")
        view = replace(ProjectView(project, SPACE, Served(version)), **changes)
        self.board.put(view)
        return view

    async def predict(self, tasks: object, project: object = "5.1795473352") -> Any:
        """Return the results of a successful /predict; the JSON is written as Label Studio writes it."""
        answer = await self.client.post("/predict", content=json.dumps({"tasks": tasks, "project": project}))
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()
