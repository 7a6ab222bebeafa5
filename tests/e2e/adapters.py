"""A real adapter on a local port that never leads: it shows what a leader has written to the store."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from services.adapter.app import create_app
from services.adapter.follower import Follower
from services.adapter.state.board import Board, ProjectView
from services.adapter.state.events import EventBuffer
from services.core.domain import Command
from services.core.inbox import Inbox
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.store.files import FileStore
from tests.support import sample_projects
from tests.support.fakes import FakeInference
from tests.support.waiting import eventually

_TICK_SECONDS = 0.1
_LEADER_SECONDS = 2.0


@dataclass
class RunningAdapter:
    """The adapter, and a simulated leader that writes to its store."""

    store: FileStore
    url: str
    views: list[ProjectView] = field(default_factory=list)

    def publish_board(self, *views: ProjectView) -> None:
        """Publish these views as the leader's board from now on; publish their versions first."""
        self.views = list(views)
        sample_projects.publish_board(self.store, self.views)

    def commands(self) -> list[Command]:
        """Return pending commands."""
        return Inbox(self.store).commands()


@contextlib.contextmanager
def running_adapter(folder: Path, settings: Settings) -> Iterator[RunningAdapter]:
    """Run the adapter until the end of the block."""
    store, board, over = FileStore(folder), Board(), threading.Event()
    event_buffer = EventBuffer(store, lambda: None)
    app = create_app(settings, board, event_buffer, FakeInference(), Registry(store), Runs(store))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = RunningAdapter(store, f"http://localhost:{listener.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2))
        threads = [
            threading.Thread(target=lambda: server.run(sockets=[listener])),
            threading.Thread(target=_follow, args=(found, Follower(store, board, event_buffer), over)),
        ]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: server.started, 20, what="the adapter answers")
            yield found
        finally:
            server.should_exit = True
            over.set()
            for thread in threads:
                thread.join(10)


def _follow(found: RunningAdapter, follower: Follower, over: threading.Event) -> None:
    """Follow the leader; now and then the simulated leader publishes its board again."""
    follower.start(time.time())
    actual = time.monotonic()
    while not over.wait(_TICK_SECONDS):
        if time.monotonic() - actual > _LEADER_SECONDS:
            actual = time.monotonic()
            sample_projects.publish_board(found.store, found.views)
        follower.tick(time.time())
