"""The Desk in this process: routes leave here what they were told, and the member's thread comes for it.

Commands are stored before they are answered. Hints stay in memory until they are collected, once for each project: by
the supervisor where this process leads, else to be passed on to the one that does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from services.core.domain import Command
from services.core.inbox import ChangeNotice, Inbox
from services.core.store import ObjectStore

_MAX_PROJECTS: Final = 1000
"""Projects of which something is held in memory: anybody may invent numbers."""
_REPEAT_SECONDS: Final = 60.0
"""After which the same words of /setup are passed on once more: elsewhere others may have been said meanwhile."""
_KEPT_SECONDS: Final = 120.0
"""For which what was taken is still known, for the next term."""
_Setup = tuple[Mapping[str, str] | None, str]


class EventBuffer:
    """A Desk over the inbox of `store`, which is written to whoever leads."""

    def __init__(
        self, store: ObjectStore, wake: Callable[[], None], clock: Callable[[], float] = time.time
    ) -> None:
        """`wake`: something lies here."""
        self._inbox = Inbox(store)
        self._wake = wake
        self._clock = clock
        self._notices: dict[int, ChangeNotice] = {}
        self._setups: dict[int, tuple[_Setup, float]] = {}
        self._taken: list[tuple[float, ChangeNotice]] = []
        self._lock = threading.Lock()

    def notify(self, project_id: int, action: str) -> None:
        """Something happened in the project."""
        self._add(ChangeNotice(project_id, (action,), at=self._clock()))

    def submit(self, command: Command) -> None:
        """Store a command. Raises StoreError, and then it was not taken."""
        self._inbox.add_command(command)
        self._wake()

    def remember(self, project_id: int, overrides: Mapping[str, str] | None, seen_url: str) -> None:
        """Keep what /setup said: run parameters (None: nothing), and the URL by which Label Studio reached us."""
        now = self._clock()
        (before, _), at = self._setups.get(project_id, ((None, ""), 0.0))
        said: _Setup = (before if overrides is None else dict(overrides), seen_url)
        known = self._setups.get(project_id)
        if known and known[0] == said and now - at < _REPEAT_SECONDS:
            return
        if len(self._setups) >= _MAX_PROJECTS:
            self._setups.clear()
        self._setups[project_id] = (said, now)
        self._add(ChangeNotice(project_id, (), None if overrides is None else dict(overrides), seen_url, now))

    def collect(self) -> list[ChangeNotice]:
        """Take everything away."""
        now = self._clock()
        with self._lock:
            found, self._notices = list(self._notices.values()), {}
            kept = [(at, hint) for at, hint in self._taken if 0 <= now - at < _KEPT_SECONDS]
            self._taken = [*kept, *((now, hint) for hint in found)][-_MAX_PROJECTS:]
        return found

    def requeue_taken(self) -> None:
        """Leave once more what was taken lately: whoever took it may have lost the lead over it, and nothing is done twice."""
        with self._lock:
            taken, self._taken = self._taken, []
        for _, hint in taken:
            self._add(hint)

    def _add(self, hint: ChangeNotice) -> None:
        with self._lock:
            known = self._notices.get(hint.project_id)
            if known or len(self._notices) < _MAX_PROJECTS:
                self._notices[hint.project_id] = known.merge(hint) if known else hint
        self._wake()
