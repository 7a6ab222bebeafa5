"""The buffer between routes and the replica's thread: events and /setup data in memory, commands in the bucket's inbox.

Commands are stored before they are answered. Change notices stay in memory, merged by project, until they are collected: by
the controller if this process leads, else to be forwarded to the leader. Those that could not be forwarded are given back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from services.adapter.state.command_writer import CommandWriter
from services.core.inbox import Inbox
from services.core.notices import ChangeNotice, merge_notices
from services.core.store import ObjectStore

_MAX_PROJECTS: Final = 1000
"""Limit of projects in memory: project ids in events are not authenticated."""
_REPEAT_SECONDS: Final = 60.0
"""After which the same /setup data is passed on again: another replica may have received different data meanwhile."""
_KEPT_SECONDS: Final = 120.0
"""How long collected notices are kept for the next term."""
_Setup = tuple[Mapping[str, str] | None, str]


class EventBuffer:
    """An EventSink over the inbox of `store`, which every replica may write to."""

    def __init__(
        self, store: ObjectStore, wake: Callable[[], None], clock: Callable[[], float] = time.time
    ) -> None:
        """`wake` is called when something was added."""
        self.submit = CommandWriter(Inbox(store), wake).submit
        self._wake = wake
        self._clock = clock
        self._notices: dict[int, ChangeNotice] = {}
        self._setups: dict[int, tuple[_Setup, float]] = {}
        self._collected: list[tuple[float, ChangeNotice]] = []
        self._lock = threading.Lock()

    def notify(self, project_id: int, action: str) -> None:
        """Buffer an event of the project."""
        self._add(ChangeNotice(project_id, (action,), at=self._clock()))

    def remember_setup(self, project_id: int, overrides: Mapping[str, str] | None, seen_url: str) -> None:
        """Buffer the data of /setup: run parameters (None: it named none), and the URL by which Label Studio reached us."""
        now = self._clock()
        known = self._setups.get(project_id)
        (before, _), at = known or ((None, ""), 0.0)
        setup: _Setup = (before if overrides is None else dict(overrides), seen_url)
        if known and known[0] == setup and now - at < _REPEAT_SECONDS:
            return
        if len(self._setups) >= _MAX_PROJECTS:
            self._setups.clear()
        self._setups[project_id] = (setup, now)
        self._add(ChangeNotice(project_id, (), None if overrides is None else dict(overrides), seen_url, now))

    def collect(self) -> list[ChangeNotice]:
        """Return all notices and empty the buffer."""
        now = self._clock()
        with self._lock:
            found, self._notices = list(self._notices.values()), {}
            kept = [(at, notice) for at, notice in self._collected if 0 <= now - at < _KEPT_SECONDS]
            self._collected = [*kept, *((now, notice) for notice in found)][-_MAX_PROJECTS:]
        return found

    def give_back(self, notices: Iterable[ChangeNotice]) -> int:
        """Buffer collected notices again, before those that came meanwhile; return how many projects' are beyond the limit."""
        with self._lock:
            merged = merge_notices((*notices, *self._notices.values()))
            self._notices = {notice.project_id: notice for notice in merged[:_MAX_PROJECTS]}
        return max(0, len(merged) - _MAX_PROJECTS)

    def requeue_collected(self) -> None:
        """Buffer recently collected notices again: who collected them may no longer lead, and handling one twice is harmless."""
        with self._lock:
            collected, self._collected = self._collected, []
        self.give_back(notice for _, notice in collected)
        self._wake()

    def _add(self, notice: ChangeNotice) -> None:
        with self._lock:
            known = self._notices.get(notice.project_id)
            if known or len(self._notices) < _MAX_PROJECTS:
                self._notices[notice.project_id] = known.merge(notice) if known else notice
        self._wake()
