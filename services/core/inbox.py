"""inbox/ in the bucket: what processes that do not lead leave for the one that does.

A command is what a person asked for: stored before it is answered, deleted once it is carried out. A hint is what Label
Studio said of a project, one object a project: a lost one costs time alone, because Label Studio is looked at anyway.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog

from services.core import documents
from services.core.documents import FORMAT
from services.core.domain import Command
from services.core.errors import NotFound, ObjectTooLarge, StoreError, UnknownFormat
from services.core.store import ObjectStore

log = structlog.get_logger()
_COMMAND, _HINT = "inbox/cmd-", "inbox/hint-"
_Document = TypeVar("_Document")


@dataclass(frozen=True, slots=True)
class Hint:
    """inbox/hint-<project id>.json: events of a project, and what its /setup said."""

    project_id: int
    actions: tuple[str, ...] = ()
    """Names of events, each once; SETUP for a project that nobody looks after yet."""
    overrides: dict[str, str] | None = None
    """Run parameters from /setup's extra_params; None: nothing was said about them."""
    seen_url: str = ""
    """The URL by which Label Studio reached us; "" where only an event came."""
    at: float = 0.0
    format: int = FORMAT

    def then(self, later: Hint) -> Hint:
        """Both in one: what was said last holds."""
        return replace(
            self,
            actions=tuple(dict.fromkeys((*self.actions, *later.actions))),
            overrides=self.overrides if later.overrides is None else later.overrides,
            seen_url=later.seen_url or self.seen_url,
            at=max(self.at, later.at),
        )


@dataclass(frozen=True, slots=True)
class Inbox:
    """All commands and hints that wait in a store."""

    store: ObjectStore
    _said: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def put(self, command: Command) -> None:
        """Store the command. Raises StoreError, and then it must not be answered as taken."""
        self.store.write(f"{_COMMAND}{command.id}.json", documents.dump(command))

    def commands(self) -> list[Command]:
        """The waiting commands, oldest first. One that cannot be read stays where it is and holds up no other."""
        return self._all(Command, _COMMAND)

    def done(self, command_id: str) -> None:
        """The command was carried out, or refused for good."""
        self.store.delete(f"{_COMMAND}{command_id}.json")

    def hint(self, hint: Hint) -> None:
        """Leave a hint, joined to one of the project that still lies there. Raises StoreError."""
        known = self._read(Hint, _key(hint.project_id))
        self.store.write(_key(hint.project_id), documents.dump(known.then(hint) if known else hint))

    def hints(self) -> list[Hint]:
        """Take all hints away."""
        found = self._all(Hint, _HINT)
        for hint in found:
            self.store.delete(_key(hint.project_id))
        return found

    def _all(self, kind: type[_Document], prefix: str) -> list[_Document]:
        found = (self._read(kind, key) for key in list(self.store.keys(prefix)))
        return [document for document in found if document is not None]

    def _read(self, kind: type[_Document], key: str) -> _Document | None:
        with contextlib.suppress(NotFound):
            try:
                data = self.store.read(key)
            except ObjectTooLarge as error:
                self._say(key, error)
                return None
            try:
                return documents.load(kind, data, key)
            except StoreError as error:
                self._say(key, error)
        return None

    def _say(self, key: str, error: StoreError) -> None:
        """Once a process: the inbox is read every second, and a newer release may still carry the command out."""
        if key not in self._said:
            self._said.add(key)
            why = str(error) if isinstance(error, UnknownFormat) else "it is broken: delete it"
            log.error("a command is passed over", key=key, reason=why)


def command_id(now: float) -> str:
    """An id that sorts by time: microseconds since the epoch in 16 digits, then 8 random hex digits."""
    return f"{int(now * 1e6):016d}-{os.urandom(4).hex()}"


def _key(project_id: int) -> str:
    return f"{_HINT}{project_id}.json"
