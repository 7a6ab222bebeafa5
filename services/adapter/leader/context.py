"""What the reconcilers of all projects share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from services.adapter.leader.work_queue import WorkQueue
from services.adapter.leader.workers import Workers
from services.adapter.ports import Launcher
from services.adapter.serving.promotions import Promotions
from services.adapter.serving.refresh import Refresher
from services.adapter.state.board import Board
from services.adapter.training.index_updater import LabelSource
from services.adapter.training.retention import Retention
from services.adapter.training.run_queue import RunQueue
from services.core.inbox import Inbox
from services.core.registry import Registry
from services.core.retry import CircuitBreaker
from services.core.runs import Runs
from services.core.settings import Settings


@dataclass(slots=True)
class ReconcilerContext:
    """What the reconcilers of all projects share."""

    settings: Settings
    registry: Registry
    runs: Runs
    inbox: Inbox
    label_studio: LabelSource
    launcher: Launcher
    promotions: Promotions
    refresher: Refresher
    retention: Retention
    run_queue: RunQueue
    board: Board
    workers: Workers
    queue: WorkQueue
    clock: Callable[[], float]
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    """Of Label Studio as a whole."""
    label_studio_problem: str = ""
    """Why it did not answer the last time."""
