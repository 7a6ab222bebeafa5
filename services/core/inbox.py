"""inbox/ in the bucket: what followers leave for the leader.

A command is a person's request: stored before it is answered, deleted once it is executed. A change notice summarises the
events of one project; a lost notice only costs time, because the leader polls Label Studio anyway.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog

from services.core import documents
from services.core.documents import FORMAT, Extensible
from services.core.domain import Command
from services.core.errors import NotFound, ObjectTooLarge, StoreError, UnknownFormat
from services.core.store import ObjectStore

log = structlog.get_logger()
_COMMAND, _NOTICE = "inbox/cmd-", "inbox/hint-"
_Document = TypeVar("_Document")


@dataclass(frozen=True, slots=True)
class ChangeNotice(Extensible):
    """inbox/hint-<project id>.json: a project's events, and the data of its /setup request."""

    project_id: int
    actions: tuple[str, ...] = ()
    """Names of events, each once; SETUP for a project that is not connected yet."""
    overrides: dict[str, str] | None = None
    """Run parameters from /setup's extra_params; None if there were none."""
    seen_url: str = ""
    """The URL by which Label Studio reached us; "" if there was only an event."""
    at: float = 0.0
    format: int = FORMAT

    def merge(self, later: ChangeNotice) -> ChangeNotice:
        """Combine both; the later values win."""
        return replace(
            self,
            actions=tuple(dict.fromkeys((*self.actions, *later.actions))),
            overrides=self.overrides if later.overrides is None else later.overrides,
            seen_url=later.seen_url or self.seen_url,
            at=max(self.at, later.at),
            unknown={**self.unknown, **later.unknown},
        )


@dataclass(frozen=True, slots=True)
class Inbox:
    """All waiting commands and change notices of a store."""

    store: ObjectStore
    _warned: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def add_command(self, command: Command) -> None:
        """Store the command. If this raises StoreError, the command must not be acknowledged."""
        self.store.write(f"{_COMMAND}{command.id}.json", documents.dump(command))

    def commands(self) -> list[Command]:
        """List the waiting commands, oldest first. An unreadable one stays in place and delays no other."""
        return self._all(Command, _COMMAND)

    def delete_command(self, command_id: str) -> None:
        """Remove a command that was executed, or refused for good."""
        self.store.delete(f"{_COMMAND}{command_id}.json")

    def close_command(self, command: Command, reason: str) -> None:
        """Remove a handled command and log its result. Raises StoreError."""
        self.delete_command(command.id)
        log.info(
            "command_handled",
            project=command.project_id,
            command=command.id,
            action=command.action,
            version=command.version,
            asked_by=command.asked_by,
            reason=reason,
        )

    def add_notice(self, notice: ChangeNotice) -> None:
        """Store a notice, merged with the project's waiting one. Raises StoreError."""
        known = self._read(ChangeNotice, _notice_key(notice.project_id))
        self.store.write(
            _notice_key(notice.project_id), documents.dump(known.merge(notice) if known else notice)
        )

    def take_notices(self) -> list[ChangeNotice]:
        """Remove and return all notices."""
        found = self._all(ChangeNotice, _NOTICE)
        for notice in found:
            self.store.delete(_notice_key(notice.project_id))
        return found

    def _all(self, kind: type[_Document], prefix: str) -> list[_Document]:
        found = (self._read(kind, key) for key in list(self.store.keys(prefix)))
        return [document for document in found if document is not None]

    def _read(self, kind: type[_Document], key: str) -> _Document | None:
        with contextlib.suppress(NotFound):
            try:
                data = self.store.read(key)
            except ObjectTooLarge as error:
                self._warn_once(key, error)
                return None
            try:
                return documents.load(kind, data, key)
            except StoreError as error:
                self._warn_once(key, error)
        return None

    def _warn_once(self, key: str, error: StoreError) -> None:
        """Log it once per process: the inbox is polled every second, and a newer release may still execute the command."""
        if key not in self._warned:
            self._warned.add(key)
            why = str(error) if isinstance(error, UnknownFormat) else "it is broken: delete it"
            log.error("inbox_document_skipped", key=key, reason=why)


def command_id(now: float) -> str:
    """Return an id that sorts by time: microseconds since the epoch in 16 digits, then 8 random hex digits."""
    return f"{int(now * 1e6):016d}-{os.urandom(4).hex()}"


def _notice_key(project_id: int) -> str:
    return f"{_NOTICE}{project_id}.json"
