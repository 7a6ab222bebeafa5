"""inbox/ in the bucket: what people asked for, stored before it is answered and deleted once it is carried out."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from services.core import documents
from services.core.domain import Command
from services.core.errors import NotFound
from services.core.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Inbox:
    """All commands that wait in a store."""

    store: ObjectStore

    def put(self, command: Command) -> None:
        """Store the command. Raises StoreError, and then it must not be answered as taken."""
        self.store.write(f"inbox/cmd-{command.id}.json", documents.dump(command))

    def commands(self) -> list[Command]:
        """The waiting commands, oldest first."""
        found = []
        for key in list(self.store.keys("inbox/cmd-")):
            with contextlib.suppress(NotFound):
                found.append(documents.load(Command, self.store.read(key), key))
        return found

    def done(self, command_id: str) -> None:
        """The command was carried out, or refused for good."""
        self.store.delete(f"inbox/cmd-{command_id}.json")


def command_id(now: float) -> str:
    """An id that sorts by time: microseconds since the epoch in 16 digits, then 8 random hex digits."""
    return f"{int(now * 1e6):016d}-{os.urandom(4).hex()}"
