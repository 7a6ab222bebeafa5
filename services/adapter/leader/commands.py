"""Commands of people: promote, rollback, unpin, cancel, pause, resume. TRAIN is the trigger's.

Each is carried out so that doing it twice ends the same, because a crash may come before it leaves the inbox; a rollback
therefore first becomes one that names its version. A promotion takes its time and stays in the inbox until it is decided;
of several only the newest counts. What cannot be done is answered by the sentence that it leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.adapter.ports import Launcher
from services.adapter.serving.promotions import Promotions
from services.adapter.serving.table import UNUSABLE
from services.adapter.state.documents import ProjectDocuments
from services.adapter.training.runs import RunHistory
from services.core.domain import Action, Command, Project
from services.core.errors import BadRequest
from services.core.inbox import Inbox

log = structlog.get_logger()
SERVING_ACTIONS: Final = frozenset({Action.PROMOTE, Action.ROLLBACK})
"""What changes which version serves, and so may take many steps."""
_PAUSES: Final = {Action.PAUSE: True, Action.RESUME: False}


@dataclass(frozen=True, slots=True)
class CommandHandler:
    """Carries out the commands for one project."""

    inbox: Inbox
    promotions: Promotions
    launcher: Launcher
    documents: ProjectDocuments
    history: RunHistory

    def drop_superseded(self, project: Project, commands: Sequence[Command]) -> list[Command]:
        """Without the promotions and rollbacks that a newer one makes superfluous. Raises StoreError."""
        serves = [command for command in commands if command.action in SERVING_ACTIONS]
        if len(serves) < 2:
            return list(commands)
        *older, newest = serves
        wanted = self._resolve_rollback(project, older[-1], newest)
        if wanted != newest:
            self.inbox.add_command(wanted)
        for command in older:
            self._finish(project, command, "superseded by a newer one")
        return [wanted if command is newest else command for command in commands if command not in older]

    def handle(self, project: Project, command: Command, now: float) -> str | None:
        """Do it and take it from the inbox: why it could not be done, or "". None: it goes on, and is to be asked for again.

        Raises StoreError, and then it stays as well.
        """
        try:
            if not self._apply(project, command, now):
                return None
            refusal = ""
        except (BadRequest, *UNUSABLE) as error:
            refusal = f"{command.action.value} was not done: {error}"
        self._finish(project, command, refusal or "done")
        return refusal

    def _finish(self, project: Project, command: Command, reason: str) -> None:
        self.inbox.delete_command(command.id)
        log.info(
            "command_handled",
            project=project.id,
            command=command.id,
            action=command.action,
            version=command.version,
            asked_by=command.asked_by,
            reason=reason,
        )

    def _apply(self, project: Project, command: Command, now: float) -> bool:
        if command.action is Action.PROMOTE:
            if not command.version:
                raise BadRequest("Say which version is to be served.")
            why = f"promoted by {_requester(command)}"
            return self.promotions.force(project, command.version, why, now)
        if command.action is Action.ROLLBACK:
            return self._roll_back(project, command, now)
        if command.action is Action.UNPIN:
            self.promotions.unpin(project.key)
        elif command.action is Action.CANCEL:
            self._cancel()
        elif command.action in _PAUSES:
            known = self.documents.connection()
            self.documents.write_connection(replace(known, paused=_PAUSES[command.action]))
        return True

    def _resolve_rollback(self, project: Project, before: Command, command: Command) -> Command:
        """A rollback with a promotion before it that was not carried out yet takes that one back.

        One with a rollback before it is the same wish once more.
        """
        if command.action is not Action.ROLLBACK or command.version:
            return command
        served = self.promotions.served(project.key)
        if before.action is Action.ROLLBACK:
            return replace(command, version=before.version or served.previous)
        return replace(command, version=served.current)

    def _roll_back(self, project: Project, command: Command, now: float) -> bool:
        served = self.promotions.served(project.key)
        version = command.version or served.previous
        if version is None:
            raise BadRequest("There is no earlier version to go back to.")
        if not command.version:
            self.inbox.add_command(replace(command, version=version))
        why = f"rolled back from {served.current} by {_requester(command)}"
        return self.promotions.force(project, version, why, now)

    def _cancel(self) -> None:
        active = self.history.active
        if active is None:
            raise BadRequest("No run is going on.")
        self.launcher.cancel(active.run)


def _requester(command: Command) -> str:
    return command.asked_by or "hand"
