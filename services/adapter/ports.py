"""The ports: what the adapter needs from the room that runs it (embedded now, a cluster next), and its own desk.

Implementations stand in higher rooms and are chosen in services.wiring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.core.domain import Command, Launch, RunRequest
from services.engine.protocol import Scores


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

    def prepare(self, project_key: str, version: str) -> None:
        """Load, warm and smoke-test a version beside what is held (blocking). Raises EngineError, StoreError."""
        ...


class Desk(Protocol):
    """Where routes leave what they were told; the supervisor implements it."""

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
