"""Commands of people: promote, rollback, unpin, cancel, pause, resume. TRAIN is handled by the trigger.

Handling a command twice has the same result as once, because the process may crash before the command leaves the inbox; a
rollback therefore first becomes one that names its version. A promotion takes a while and stays in the inbox until it is
decided; only the newest of several counts. A command that cannot be executed is answered with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.adapter.ports import Launcher
from services.adapter.serving.promotions import ProjectPromotions
from services.adapter.state.documents import ProjectDocuments
from services.adapter.training.runs import RunHistory
from services.core.domain import Action, Command
from services.core.errors import UNUSABLE_VERSION, BadRequest
from services.core.inbox import Inbox

SERVING_ACTIONS: Final = frozenset({Action.PROMOTE, Action.ROLLBACK})
"""Actions that change the served version, which may take many steps."""
_PAUSES: Final = {Action.PAUSE: True, Action.RESUME: False}


def group_commands(commands: Iterable[Command]) -> tuple[dict[int, list[Command]], list[Command]]:
    """Return the commands by project, and the TRAINs that newer ones with the same parameters supersede.

    Commands are given and returned oldest first. The one that stays names those who asked for the superseded ones as well.
    """
    newest: dict[tuple[int, tuple[tuple[str, str], ...]], Command] = {}
    superseded: list[Command] = []
    others: list[Command] = []
    for command in commands:
        if command.action is not Action.TRAIN:
            others.append(command)
            continue
        same = (command.project_id, tuple(sorted(command.parameters.items())))
        if older := newest.get(same):
            superseded.append(older)
            command = command.superseding(older)  # noqa: PLW2901  # with the names of those who asked before
        newest[same] = command
    found: dict[int, list[Command]] = {}
    for command in sorted((*others, *newest.values()), key=lambda command: command.id):
        found.setdefault(command.project_id, []).append(command)
    return found, superseded


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of commands."""

    trains: tuple[Command, ...]
    """TRAINs, for the trigger."""
    refusal: str | None
    """Why the last one that was executed or refused failed, or ""; None if there was none."""
    has_served: bool
    """Whether one has changed the served version."""


@dataclass(frozen=True, slots=True)
class CommandHandler:
    """Handles the commands for one project."""

    inbox: Inbox
    promotions: ProjectPromotions
    launcher: Launcher
    documents: ProjectDocuments
    history: RunHistory

    def drop_superseded(self, commands: Sequence[Command]) -> list[Command]:
        """Drop the promotions and rollbacks that a newer one supersedes. Raises StoreError."""
        serving = [command for command in commands if command.action in SERVING_ACTIONS]
        if len(serving) < 2:
            return list(commands)
        *older, newest = serving
        resolved = self._resolve_rollback(older[-1], newest)
        if resolved != newest:
            self.inbox.add_command(resolved)
        for command in older:
            self.inbox.close_command(command, "superseded by a newer one")
        return [resolved if command is newest else command for command in commands if command not in older]

    def handle_all(self, commands: Sequence[Command], now: float) -> Handled:
        """Handle all commands but TRAIN. A CANCEL also cancels the TRAINs before it. Raises StoreError."""
        trains: list[Command] = []
        refusal: str | None = None
        in_progress = has_served = False
        for command in commands:
            if self.history.has_run_for(command.id):
                self.inbox.answer_command(command)
            elif command.action is Action.TRAIN:
                trains.append(command)
            elif not (
                in_progress and command.action is Action.UNPIN
            ):  # which is about the promotion's result
                if command.action is Action.CANCEL:
                    for dropped in trains:
                        self.inbox.delete_command(dropped.id)
                    trains = []
                answer = self.handle(command, now)
                if answer is None:
                    in_progress = True
                    continue
                refusal = answer
                has_served = has_served or (not answer and command.action in SERVING_ACTIONS)
        return Handled(tuple(trains), refusal, has_served=has_served)

    def handle(self, command: Command, now: float) -> str | None:
        """Execute the command and remove it from the inbox; return why it failed, or "".

        None: it is still in progress and must be handled again. Raises StoreError, and then it stays in the inbox as well.
        """
        try:
            if not self._apply(command, now):
                return None
            refusal = ""
        except (BadRequest, *UNUSABLE_VERSION) as error:
            refusal = f"{command.action.value} failed: {error}"
        self.inbox.close_command(command, refusal or "done")
        return refusal

    def _apply(self, command: Command, now: float) -> bool:
        if command.action is Action.PROMOTE:
            if not command.version:
                raise BadRequest("Say which version is to be served.")
            why = f"promoted by {_requester(command)}"
            return self.promotions.force(command.version, why, now)
        if command.action is Action.ROLLBACK:
            return self._roll_back(command, now)
        if command.action is Action.UNPIN:
            self.promotions.rollout.unpin()
        elif command.action is Action.CANCEL:
            if self.history.active is None:
                raise BadRequest("No run is active.")
            self.launcher.cancel(self.history.active.run)
        elif command.action in _PAUSES:
            connection = self.documents.connection()
            self.documents.write_connection(replace(connection, paused=_PAUSES[command.action]))
        return True

    def _resolve_rollback(self, before: Command, command: Command) -> Command:
        """Name the version of a rollback that follows another command that was not executed yet.

        After a promotion it undoes that promotion; after a rollback it is the same request once more.
        """
        if command.action is not Action.ROLLBACK or command.version:
            return command
        served = self.promotions.rollout.served
        if before.action is Action.ROLLBACK:
            return replace(command, version=before.version or served.previous)
        return replace(command, version=served.current)

    def _roll_back(self, command: Command, now: float) -> bool:
        served = self.promotions.rollout.served
        version = command.version or served.previous
        if version is None:
            raise BadRequest("There is no earlier version to go back to.")
        if not command.version:
            self.inbox.add_command(replace(command, version=version))
        why = f"rolled back from {served.current} by {_requester(command)}"
        return self.promotions.force(version, why, now)


def _requester(command: Command) -> str:
    return command.asked_by or "hand"
