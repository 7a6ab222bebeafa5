"""Projects that Label Studio does not have: it sends no event for a deleted one, and a token may lose its access for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Final

import structlog

from services.adapter.leader.connection_check import GONE_SECONDS
from services.adapter.serving.table import ServingTableWriter
from services.adapter.state.project_state import ProjectState, ProjectStateFile
from services.core.errors import StoreError
from services.core.notices import ChangeNotice

log = structlog.get_logger()
_RECENT_SECONDS: Final = 3600.0
_DELETED: Final = "PROJECT_DELETED"
_STILL_THERE_SECONDS: Final = 60.0
_MAX_REMEMBERED: Final = 1000
"""Limit of reported deletions: the ids in events are not authenticated."""


class MissingProjects:
    """The missing projects by id. Only the leader's thread may call it."""

    def __init__(self, table: ServingTableWriter) -> None:
        self._table = table
        self._states: dict[int, ProjectStateFile] = {}

    def note(self, project_id: int, state_file: ProjectStateFile, now: float) -> None:
        """Store since when Label Studio has not had the project."""
        self._states[project_id] = state_file
        with contextlib.suppress(StoreError):  # then it counts from the next time
            state_file.update(missing_since=state_file.state.missing_since or now)

    def found(self, project_id: int) -> None:
        """Forget a project that Label Studio has. Raises StoreError."""
        if state_file := self._states.pop(project_id, None):
            state_file.update(missing_since=None)

    def drop_if_gone(self, project_id: int, read_at: Iterable[float], now: float) -> None:
        """Stop serving a project that Label Studio has not had for a day, although it has others. Raises StoreError.

        `read_at`: when other projects were read last; without a recent one, our token may have lost its access.
        """
        state_file = self._states.get(project_id)
        if (
            state_file
            and is_gone(state_file.state, now)
            and max(read_at, default=0.0) > now - _RECENT_SECONDS
        ):
            self._table.drop_project(project_id)


class ReportedDeletions:
    """The projects whose deletion Label Studio's events have reported. Only the leader's thread may call it."""

    def __init__(self) -> None:
        self._at: dict[int, float] = {}

    def note(self, notice: ChangeNotice) -> None:
        """Note the event, if it is one."""
        if _DELETED in notice.actions and len(self._at) < _MAX_REMEMBERED:
            self._at[notice.project_id] = notice.at

    def found(self, project_id: int, read_at: float) -> None:
        """Ignore it if Label Studio still has the project a minute later: events are not authenticated."""
        if read_at > self._at.get(project_id, float("inf")) + _STILL_THERE_SECONDS:
            del self._at[project_id]

    def take(self, project_id: int) -> bool:
        """Return whether the project's deletion was reported, and forget that."""
        return self._at.pop(project_id, None) is not None


def is_gone(state: ProjectState, now: float) -> bool:
    """Return whether Label Studio has not had the project for a day."""
    return state.missing_since is not None and now - state.missing_since >= GONE_SECONDS
