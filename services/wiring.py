"""The one place that chooses: which store, launcher and inference stand behind the ports, and what knows what.

`embedded(settings)` builds the whole of `fitloop local`; nothing runs until `Parts.start()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.core.settings import Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from services.adapter.board import Board
    from services.adapter.supervisor import Supervisor
    from services.core.store import ObjectStore
    from services.embedded.inference import LocalInference
    from services.embedded.launcher import ChildLauncher


@dataclass(frozen=True, slots=True)
class Parts:
    """What a process consists of."""

    store: ObjectStore
    launcher: ChildLauncher
    inference: LocalInference
    board: Board
    supervisor: Supervisor
    app: Starlette

    def start(self) -> None:
        """Begin to look after the projects; returns at once."""
        self.supervisor.start()

    def stop(self) -> None:
        """End what runs: trainers first, which keep what they have (up to 15 s), whatever the supervisor waits for."""
        self.launcher.close()
        self.supervisor.stop()
        self.inference.close()


def embedded(settings: Settings) -> Parts:
    """Everything in this process, over the folder `settings.storage.model_dir`; the caller holds its lock."""
    from services.adapter.app import create_app
    from services.adapter.board import Board
    from services.adapter.supervisor import Supervisor
    from services.core.labelstudio import LabelStudio
    from services.core.registry import Registry
    from services.core.runs import Runs
    from services.core.store import open_store
    from services.embedded.inference import LocalInference
    from services.embedded.launcher import ChildLauncher

    folder = settings.storage.model_dir.expanduser().resolve()
    store = open_store(folder.as_uri())
    registry, runs, board = Registry(store), Runs(store), Board()
    launcher = ChildLauncher(store, folder / "locks", on_change=lambda: supervisor.wake())  # noqa: PLW0108  # made two lines below
    inference = LocalInference(registry, settings.serving)
    supervisor = Supervisor(settings, store, LabelStudio(settings.label_studio), launcher, inference, board)
    app = create_app(settings, board, supervisor, inference, registry, runs)
    return Parts(store, launcher, inference, board, supervisor, app)
