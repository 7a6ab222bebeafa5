"""inbox/ in the bucket: what people asked for, stored before it is answered and deleted once it is carried out."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field

import structlog

from services.core import documents
from services.core.domain import Command
from services.core.errors import NotFound, StoreError, UnknownFormat
from services.core.store import ObjectStore

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Inbox:
    """All commands that wait in a store."""

    store: ObjectStore
    _said: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def put(self, command: Command) -> None:
        """Store the command. Raises StoreError, and then it must not be answered as taken."""
        self.store.write(f"inbox/cmd-{command.id}.json", documents.dump(command))

    def commands(self) -> list[Command]:
        """The waiting commands, oldest first. One that cannot be read stays where it is and holds up no other."""
        found = []
        for key in list(self.store.keys("inbox/cmd-")):
            with contextlib.suppress(NotFound):
                data = self.store.read(key)
                try:
                    found.append(documents.load(Command, data, key))
                except StoreError as error:
                    self._say(key, error)
        return found

    def done(self, command_id: str) -> None:
        """The command was carried out, or refused for good."""
        self.store.delete(f"inbox/cmd-{command_id}.json")

    def _say(self, key: str, error: StoreError) -> None:
        """Once a process: the inbox is read every second, and a newer release may still carry the command out."""
        if key not in self._said:
            self._said.add(key)
            why = str(error) if isinstance(error, UnknownFormat) else "it is broken: delete it"
            log.error("a command is passed over", key=key, reason=why)


def command_id(now: float) -> str:
    """An id that sorts by time: microseconds since the epoch in 16 digits, then 8 random hex digits."""
    return f"{int(now * 1e6):016d}-{os.urandom(4).hex()}"
