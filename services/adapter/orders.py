"""Commands of people: promote, rollback, unpin, cancel, pause, resume. TRAIN is the trigger's.

Each is carried out so that doing it twice ends the same, because a crash may come before it leaves the inbox; a rollback
therefore first becomes one that names its version. What cannot be done is answered by the sentence that it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.adapter.history import History
from services.adapter.notebook import Notebook
from services.adapter.ports import Launcher
from services.adapter.rollout import UNUSABLE, Rollout
from services.core.domain import Action, Command, Project
from services.core.errors import BadRequest
from services.core.inbox import Inbox

log = structlog.get_logger()
_PAUSES: Final = {Action.PAUSE: True, Action.RESUME: False}


@dataclass(frozen=True, slots=True)
class Orders:
    """Carries out the commands for one project."""

    inbox: Inbox
    rollout: Rollout
    launcher: Launcher
    notebook: Notebook
    history: History

    def carry_out(self, project: Project, command: Command, now: float) -> str:
        """Do it and take it from the inbox: why it could not be done, or "". Raises StoreError: it stays then."""
        try:
            self._do(project, command, now)
            refusal = ""
        except (BadRequest, *UNUSABLE) as error:
            refusal = f"{command.action.value} was not done: {error}"
        self.inbox.done(command.id)
        log.info(
            "a command",
            project=project.id,
            action=command.action,
            version=command.version,
            reason=refusal or "done",
        )
        return refusal

    def _do(self, project: Project, command: Command, now: float) -> None:
        if command.action is Action.PROMOTE:
            if not command.version:
                raise BadRequest("Say which version is to be served.")
            self.rollout.force(project, command.version, "promoted by hand", now)
        elif command.action is Action.ROLLBACK:
            self._roll_back(project, command, now)
        elif command.action is Action.UNPIN:
            self.rollout.unpin(project.key)
        elif command.action is Action.CANCEL:
            self._cancel()
        elif command.action in _PAUSES:
            known = self.notebook.connection()
            self.notebook.write_connection(replace(known, paused=_PAUSES[command.action]))

    def _roll_back(self, project: Project, command: Command, now: float) -> None:
        served = self.rollout.served(project.key)
        version = command.version or served.previous
        if version is None:
            raise BadRequest("There is no earlier version to go back to.")
        if not command.version:
            self.inbox.put(replace(command, version=version))
        self.rollout.force(project, version, f"rolled back by hand from {served.current}", now)

    def _cancel(self) -> None:
        active = self.history.active
        if active is None:
            raise BadRequest("No run is going on.")
        self.launcher.cancel(active.run)
