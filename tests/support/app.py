"""What stands around the adapter's routes in tests: a desk that remembers, a model that answers by rule, a registry in a folder."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
from prometheus_client import REGISTRY
from starlette.applications import Starlette

from services.adapter.app import create_app
from services.adapter.state.board import Board, ProjectView
from services.core.domain import Command, LabelSpace, Project, Served
from services.core.errors import FitloopError
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import AuthSettings, Settings
from services.core.store.files import FileStore
from services.engine.compute import Scores

LABELS = ("Positive", "Negative", "Neutral")
SPACE = LabelSpace("sentiment", "text", "$text", LABELS)


@dataclass
class FakeEventSink:
    """A Desk that keeps what it was told. `error` is raised by `submit`, which `hold` keeps waiting."""

    notified: list[tuple[int, str]] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    remembered: dict[int, tuple[dict[str, str], str]] = field(default_factory=dict)
    error: FitloopError | None = None
    blocked_until: threading.Event | None = None

    def notify(self, project_id: int, action: str) -> None:
        self.notified.append((project_id, action))

    def submit(self, command: Command) -> None:
        if self.blocked_until:
            self.blocked_until.wait(10)
        if self.error:
            raise self.error
        self.commands.append(command)

    def remember(self, project_id: int, overrides: Mapping[str, str] | None, seen_url: str) -> None:
        known, _ = self.remembered.get(project_id, ({}, ""))
        self.remembered[project_id] = (known if overrides is None else dict(overrides), seen_url)


@dataclass
class FakeInference:
    """An Inference whose answer depends on a text's length. `rows` replaces its probabilities, `error` is raised."""

    labels: tuple[str, ...] = LABELS
    error: Exception | None = None
    rows: list[list[float]] | None = None
    asked: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)

    async def scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        await asyncio.sleep(0)
        self.asked.append((project_key, version, tuple(texts)))
        if self.error:
            raise self.error
        rows = self.rows if self.rows is not None else [self._row(text) for text in texts]
        return Scores(self.labels, np.array(rows, dtype=np.float32).reshape(len(rows), -1))

    async def ready(self) -> bool:
        return self.error is None

    def _row(self, text: str) -> list[float]:
        weights = np.ones(len(self.labels))
        weights[len(text) % len(self.labels)] += 3
        return [float(weight) for weight in weights / weights.sum()]


class AppWorld:
    """The application, what stands around it, and a client; `async with` closes the client."""

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
        """Project 5 serves that version."""
        project = Project("5-1795473352", 5, "Reviews <1>", "<View/>", "hash", "2026-11-23T22:35:52Z")
        view = replace(ProjectView(project, SPACE, Served(version)), **changes)
        self.board.put(view)
        return view

    async def predict(self, tasks: object, project: object = "5.1795473352") -> Any:
        """The results of a /predict that is answered; its JSON is written as Label Studio writes it."""
        answer = await self.client.post("/predict", content=json.dumps({"tasks": tasks, "project": project}))
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()


def metric_value(name: str, **labels: str) -> float:
    """A metric's value now; it exists from the start."""
    value = REGISTRY.get_sample_value(name, labels)
    assert value is not None, f"{name}{labels} does not exist"
    return value
