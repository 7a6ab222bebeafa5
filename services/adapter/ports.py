"""The ports: what the adapter needs from the room that runs it, `embedded` or `cluster`, and its own desk.

Implementations stand in higher rooms and are chosen in services.wiring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.core.domain import Command, Launch, RunRequest
from services.engine.compute import Scores


class Launcher(Protocol):
    """Runs trainers. It writes runs/<run>/launch.json, so that what it knows outlives it."""

    def launch(self, request: RunRequest) -> None:
        """Start the run's process, or go on with it after a restart; nothing happens while it is active."""
        ...

    def cancel(self, run: str) -> None:
        """End the run for good: its outcome becomes CANCELLED."""
        ...

    def observe(self, run: str) -> Launch | None:
        """The run's attempts and outcome; None for one that was never launched."""
        ...

    def close(self) -> None:
        """End all processes so that they keep what they have; their runs go on at the next `launch`."""
        ...


class Inference(Protocol):
    """Answers for texts, by the version that the request names."""

    async def scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        """One row a text, in order. Loads the version where it is not held. Raises Overloaded, EngineError, StoreError."""
        ...

    async def ready(self) -> bool:
        """Whether somebody is there to answer."""
        ...


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """How far a version is on its way to every process that answers for it."""

    done: bool
    """Every process holds it, warmed."""
    reason: str = ""
    """What is waited for, for people: "2 of 3 predictors hold it", "no node has room for a predictor"."""
    blocked: bool = False
    """Something other than the version hinders it; it is tried again later."""
    deferred: bool = False
    """Until then it is to be no target: what the others wait for comes without it."""


class Rollout(Protocol):
    """Brings versions to the processes that answer."""

    flip_seconds: float
    """Seconds after the table was written at which all replicas begin to tell of its version."""

    def advance(self, project_key: str, version: str, now: float) -> RolloutStatus:
        """Go on bringing a version, which the table names as current or target, to every process; called until done.

        The table names none that was set aside; one that is so no more is named right after this.

        Blocks while it loads where the process is this one; elsewhere it takes milliseconds. Raises EngineError,
        CorruptVersion or NotFound where a process has refused the version: it is bad. Raises StoreError.
        """
        ...

    def check(self, project_key: str, version: str) -> RolloutStatus:
        """Whether the version, which serves already, can be answered for; done as soon as somebody can.

        Moves nothing on a cluster: what is seldom asked for is loaded on demand there. Blocks and raises as `advance` does.
        """
        ...

    def withdraw(self, project_key: str, version: str) -> None:
        """The version is no longer wanted: forget how far it was."""
        ...

    def poll(self, now: float) -> None:
        """Carry to its end what was begun and nobody asks about any more. Called often; raises FitloopError."""
        ...


class Leadership(Protocol):
    """Which of several processes decides. One leads at a time; the others read and pass on."""

    def start(self, on_change: Callable[[], None]) -> None:
        """Begin to try; `on_change` is called from any thread when the lead is won or lost. Raises Locked where it must be ours."""
        ...

    def leads(self, seconds: float = 0.0) -> bool:
        """Whether this process leads now, and surely for so many seconds more. Never blocks."""
        ...

    def stop(self) -> None:
        """Give the lead back, so that another one has it at once."""
        ...


class EventSink(Protocol):
    """Where routes leave what they were told, for whoever leads."""

    def notify(self, project_id: int, action: str) -> None:
        """Something happened in the project: look at it soon. Cheap, never blocks."""
        ...

    def submit(self, command: Command) -> None:
        """Store a command (blocking, milliseconds). Raises StoreError, and then it was not taken."""
        ...

    def remember(self, project_id: int, overrides: Mapping[str, str] | None, seen_url: str) -> None:
        """Keep what /setup said: a project's run parameters, and the URL by which Label Studio reached us. Never blocks.

        None: it said nothing about parameters, and those that are known stay.
        """
        ...
