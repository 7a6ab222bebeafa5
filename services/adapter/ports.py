"""The adapter's ports: what it needs from its runtime, `embedded` or `cluster`, and where routes leave events and commands.

Implementations stand above the adapter and are chosen in services.wiring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.core.domain import Command, LaunchState, RunRequest
from services.engine.compute import Scores
from services.mlbackend.calls import PredictCall, TaskPredictions


class Launcher(Protocol):
    """Runs trainers. It writes runs/<run>/launch.json, so that its knowledge outlives the process."""

    def launch(self, request: RunRequest) -> None:
        """Start the run's process, or resume it after a restart; do nothing while it is active."""
        ...

    def cancel(self, run: str) -> None:
        """End the run for good: its outcome becomes CANCELLED."""
        ...

    def observe(self, run: str) -> LaunchState | None:
        """Return the run's attempts and outcome; None for a run that was never launched."""
        ...

    def close(self) -> None:
        """Stop all processes so that they save their state; their runs resume at the next `launch`."""
        ...


class Inference(Protocol):
    """Scores texts, or predicts tasks, with the version that the request names."""

    async def scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        """Return one row per text, in order. Loads the version if necessary. Raises Overloaded, EngineError, StoreError."""
        ...

    async def predict_tasks(self, project_key: str, version: str, call: PredictCall) -> list[TaskPredictions]:
        """Return each task's predictions, in order, by the class of the version; none for a task without suggestions.

        Raises Overloaded, EngineError, StoreError.
        """
        ...

    async def ready(self) -> bool:
        """Return whether at least one predictor can answer."""
        ...


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """How far the rollout of a version has come."""

    done: bool
    """Every predictor has loaded the version and warmed it up."""
    reason: str = ""
    """What it waits for, for people: "2 of 3 predictors have loaded it", "no node has room for a predictor"."""
    blocked: bool = False
    """Something other than the version stops it; it is retried later."""
    deferred: bool = False
    """It must not be a target until then: what other projects wait for comes first."""


class Rollout(Protocol):
    """Brings versions to all predictors. No call waits for a predictor: each returns what is known, and has more found out."""

    flip_seconds: float
    """Seconds after the table was written at which all replicas switch to its version at once."""

    def advance(self, project_key: str, version: str, now: float, encoder: str = "") -> RolloutStatus:
        """Take the rollout of a version, which the table names as current or target, one step further; called until done.

        `encoder`: the digest of the shared encoder that it needs; "" for a whole model, and if that is not known.
        The table does not name a deferred version; one that is deferred no longer is named right after this call. Done means
        that every ready predictor reported the version after it was first asked for. Raises EngineError, CorruptVersion or
        NotFound if a predictor refused the version: it is bad. Raises StoreError.
        """
        ...

    def check(self, project_key: str, version: str) -> RolloutStatus:
        """Return whether the served version can answer requests; done as soon as it can on one predictor.

        Changes nothing on a cluster, where rarely used versions are loaded on demand. Raises as `advance` does.
        """
        ...

    def withdraw(self, project_key: str, version: str) -> None:
        """Forget the progress of a version that is no longer wanted."""
        ...

    def poll(self, now: float) -> None:
        """Finish or abort rollouts that no project is waiting for. Called often; raises FitloopError."""
        ...


class Leadership(Protocol):
    """Leader election: one replica leads at a time; the others follow."""

    def start(self, on_change: Callable[[], None], is_working: Callable[[], bool] = lambda: True) -> None:
        """Start campaigning; `on_change` is called from any thread when the lead is won or lost. Raises Locked if this process must lead and cannot.

        A lead that another process could take is not kept once `is_working`, which is asked every few seconds from any thread, is False.
        """
        ...

    def leads(self, seconds: float = 0.0) -> bool:
        """Return whether this process leads now and certainly for `seconds` more. Never blocks."""
        ...

    def resign(self, seconds: float) -> None:
        """Give up the lead and do not stand again for so many seconds, unless no other process could lead meanwhile. Never blocks."""
        ...

    def stop(self) -> None:
        """Give up the lead, so that another replica gets it at once."""
        ...


class EventSink(Protocol):
    """Where routes leave Label Studio's events and people's commands for the leader."""

    def notify(self, project_id: int, action: str) -> None:
        """Report an event of the project, so that it is polled soon. Never blocks."""
        ...

    async def submit(self, command: Command) -> str:
        """Store a command within 0.4 s; return the id under which it is stored. Raises StoreError, and then it was not accepted.

        Requests for the same may share a stored command, which then has the id of the last one.
        """
        ...

    def remember_setup(self, project_id: int, overrides: Mapping[str, str] | None, seen_url: str) -> None:
        """Keep the data of /setup: the project's run parameters, and the URL by which Label Studio reached us. Never blocks.

        `overrides` None: it named no parameters, and the known ones stay.
        """
        ...
