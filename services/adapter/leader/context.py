"""What the reconcilers of all projects share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from services.adapter.leader.work_queue import WorkQueue
from services.adapter.leader.workers import Workers
from services.adapter.ports import Launcher
from services.adapter.serving.promotions import Promotions
from services.adapter.serving.refresh import Refresher
from services.adapter.state.board import Board
from services.adapter.state.project_state import ProjectStateFile
from services.adapter.training.help_monitor import Answers, HelpMonitor
from services.adapter.training.index_updater import LabelSource
from services.adapter.training.label_reader import LabelReader
from services.adapter.training.retention import Retention
from services.adapter.training.run_queue import RunQueue
from services.core.inbox import Inbox
from services.core.labelstudio import Backend
from services.core.registry import Registry
from services.core.retry import CircuitBreaker
from services.core.runs import Runs
from services.core.settings import Settings


class BackendList(Protocol):
    """The part of LabelStudio that is about a project's backends."""

    def backends(self, project_id: int) -> list[Backend]:
        """Return the project's ML backends."""
        ...


@dataclass(slots=True)
class ReconcilerContext:
    """What the reconcilers of all projects share."""

    settings: Settings
    registry: Registry
    runs: Runs
    inbox: Inbox
    label_studio: LabelSource
    backends: BackendList
    launcher: Launcher
    promotions: Promotions
    refresher: Refresher
    retention: Retention
    run_queue: RunQueue
    board: Board
    workers: Workers
    queue: WorkQueue
    clock: Callable[[], float]
    answers: Answers
    """What versions would have suggested for blind tasks; asked by workers."""
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    """Of Label Studio as a whole."""
    label_studio_problem: str = ""
    """Why it did not answer the last time."""

    def state_file(self, project_key: str) -> ProjectStateFile:
        """Return the project's state.json, not read yet."""
        return ProjectStateFile(self.registry.store, project_key, lambda: self.promotions.table.term)

    def label_reader(self, project_id: int) -> LabelReader:
        """Return a reader of the project's labels, which has read nothing yet."""
        store = self.registry.store
        monitor = HelpMonitor(store, self.settings.serving.blind_share, self.answers)
        return LabelReader(self.label_studio, project_id, store, monitor)
