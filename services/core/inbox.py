"""inbox/ in the bucket: what routes and followers leave for the leader.

A command is a person's request: stored before it is answered, deleted once it is executed. A change notice summarises the
events of one project; a lost notice only costs time, because the leader polls Label Studio anyway. No name is used twice, so
that the reader who deletes an object deletes what it has read, and nothing that came later.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from services.core import documents
from services.core.domain import Command
from services.core.errors import NotFound, ObjectTooLarge, StoreError, UnknownFormat, UnreadableDocument
from services.core.notices import ChangeNotice, NoticeBatch, merge_notices
from services.core.store import Entry, ObjectStore

log = structlog.get_logger()
MAX_OBJECTS: Final = 200
"""Objects that the leader reads in one pass; the others wait for the next."""
_COMMAND, _BATCH, _NOTICE = "inbox/cmd-", "inbox/events-", "inbox/hint-"
_FEW: Final = 3
"""New objects that are read one after the other."""
_MAX_BATCH_BYTES: Final = 512 * 1024
"""Readers refuse an object of more than 1 MB."""


@dataclass(frozen=True, slots=True)
class InboxContents:
    """What waits for the leader."""

    commands: tuple[Command, ...] = ()
    """Oldest first."""
    notices: tuple[ChangeNotice, ...] = ()
    """One per project; each is returned once."""
    notice_keys: tuple[str, ...] = ()
    """The objects with notices that an earlier pass has returned: `delete_handled`, in any thread.

    Those of this pass stay until the next one, so that a leader that dies before it has handled them loses nothing.
    """
    left: int = 0
    """Objects that were not read in this pass, because there are too many."""


@dataclass(frozen=True, slots=True)
class Inbox:
    """All waiting commands and change notices of a store. Only one thread at a time may call `read`."""

    store: ObjectStore
    _known: dict[str, tuple[Entry, Command | None]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """By key, the commands that were read, and None for unreadable objects and for notices that were returned."""
    _returned: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """The keys of notices that were returned and are not deleted."""
    _answered: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """The keys of answered commands that are not deleted."""

    def add_command(self, command: Command) -> None:
        """Store the command. If this raises StoreError, the command must not be acknowledged."""
        key = _command_key(command.id)
        self._known.pop(key, None)
        self.store.write(key, documents.dump(command))

    def delete_command(self, command_id: str) -> None:
        """Remove a command that was executed, or refused for good."""
        self.store.delete(_command_key(command_id))

    def answer_command(self, command: Command, reason: str = "") -> None:
        """Return the command no more, and log its result, if given. Its object stays until `delete_handled`.

        For commands that may be answered again: the next leader reads those that were not deleted.
        """
        self._answered.add(_command_key(command.id))
        if reason:
            self._log(command, reason)

    @property
    def answered_keys(self) -> list[str]:
        """The objects of answered commands that are not deleted."""
        return sorted(self._answered)

    def close_command(self, command: Command, reason: str) -> None:
        """Remove a handled command and log its result. Raises StoreError."""
        self.delete_command(command.id)
        self._log(command, reason)

    def _log(self, command: Command, reason: str) -> None:
        log.info(
            "command_handled",
            project=command.project_id,
            command=command.id,
            action=command.action,
            version=command.version,
            asked_by=command.asked_by,
            reason=reason,
        )

    def has_command(self, command_id: str) -> bool:
        """Return whether the command still waits. Raises StoreError."""
        with contextlib.suppress(NotFound):
            self.store.read(_command_key(command_id))
            return True
        return False

    def add_notices(self, notices: Sequence[ChangeNotice], now: float) -> None:
        """Store the notices in one object; in several only if they are too large for one. Raises StoreError."""
        data = documents.dump(NoticeBatch(tuple(notices)))
        if len(data) > _MAX_BATCH_BYTES and len(notices) > 1:
            half = len(notices) // 2
            self.add_notices(notices[:half], now)
            self.add_notices(notices[half:], now)
        else:
            self.store.write(f"{_BATCH}{command_id(now)}.json", data)

    def add_notice(self, notice: ChangeNotice) -> None:
        """Store a notice, merged with the project's waiting one, for a leader of an earlier release. Raises StoreError."""
        key = f"{_NOTICE}{notice.project_id}.json"
        known: ChangeNotice | None = None
        with contextlib.suppress(NotFound, ObjectTooLarge):
            data = self.store.read(key)
            with contextlib.suppress(StoreError):  # an unreadable one is overwritten
                known = documents.load(ChangeNotice, data, key)
        self.store.write(key, documents.dump(known.merge(notice) if known else notice))

    def delete_handled(self, keys: Sequence[str], executor: Executor | None = None) -> None:
        """Remove objects that were handled, in parallel with an `executor`. Raises StoreError."""
        delete = executor.map if executor and len(keys) > _FEW else map
        for _ in delete(self.store.delete, keys):
            pass

    def commands(self) -> list[Command]:
        """Return the waiting commands, oldest first. Raises StoreError."""
        return list(self.read().commands)

    def read(self, executor: Executor | None = None, limit: int = MAX_OBJECTS) -> InboxContents:
        """List the inbox once, read what is new, commands first and oldest first; return all commands that wait.

        `executor`: reads objects in parallel if there are many. An unreadable object stays in place, is reported once and delays no other.
        Raises StoreError.
        """
        entries = {entry.key: entry for entry in self.store.entries("inbox/") if _kind_of(entry.key)}
        for key in [key for key, (entry, _) in self._known.items() if entries.get(key) != entry]:
            self._known.pop(key, None)
            self._returned.discard(key)
        self._answered.intersection_update(entries)
        handled = sorted(self._returned)
        new = [entry for key, entry in entries.items() if key not in self._known]
        notices: dict[str, tuple[ChangeNotice, ...]] = {}
        keys = [entry.key for entry in new[:limit]]
        load = executor.map if executor and len(keys) > _FEW else map
        for key, found in zip(keys, load(self._load, keys), strict=True):
            if isinstance(found, Command):
                self._known[key] = (entries[key], found)
            elif isinstance(found, StoreError):
                self._known[key] = (entries[key], None)
                _warn(key, found)
            elif found is not None:
                notices[key] = found
        self._known.update({key: (entries[key], None) for key in notices})
        self._returned.update(notices)
        commands = (
            command for key, (_, command) in self._known.items() if command and key not in self._answered
        )
        one_by_one = (notice for batch in notices.values() for notice in batch)
        return InboxContents(
            tuple(sorted(commands, key=lambda command: command.id)),
            tuple(merge_notices(sorted(one_by_one, key=lambda notice: notice.at))),
            tuple(handled),
            len(new) - len(keys),
        )

    def _load(self, key: str) -> Command | tuple[ChangeNotice, ...] | StoreError | None:
        """Return the object's content, or why it is unreadable; None if it was deleted meanwhile. Raises StoreError."""
        try:
            data = self.store.read(key)
        except NotFound:
            return None
        except ObjectTooLarge as error:
            return error
        try:
            return _parse(key, data)
        except StoreError as error:
            return error


def _parse(key: str, data: bytes) -> Command | tuple[ChangeNotice, ...]:
    found = documents.load(_kind_of(key), data, key)
    if isinstance(found, Command) and key != _command_key(found.id):
        raise UnreadableDocument(f"{key} holds the command {found.id}")  # which could never be deleted
    if isinstance(found, Command):
        return found
    return found.notices if isinstance(found, NoticeBatch) else (found,)


def _kind_of(key: str) -> Any:
    """Return the class of the object's content; None for an object of another kind."""
    kinds = ((_COMMAND, Command), (_BATCH, NoticeBatch), (_NOTICE, ChangeNotice))
    return next((kind for prefix, kind in kinds if key.startswith(prefix)), None)


def _warn(key: str, error: StoreError) -> None:
    """Report an unreadable object; a newer release may still execute the command."""
    why = str(error) if isinstance(error, UnknownFormat) else "it is broken: delete it"
    log.error("inbox_document_skipped", key=key, reason=why)


def command_id(now: float) -> str:
    """Return an id that sorts by time: microseconds since the epoch in 16 digits, then 8 random hex digits."""
    return f"{int(now * 1e6):016d}-{os.urandom(4).hex()}"


def _command_key(command_id: str) -> str:
    return f"{_COMMAND}{command_id}.json"
