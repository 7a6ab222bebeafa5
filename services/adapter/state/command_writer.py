"""Stores commands before they are answered, within the second that Label Studio waits.

"Start model training" may send a TRAIN with every annotation. Any number of TRAINs of one project without parameters is one
request: those that arrive while one is being written share the next write, and a command takes the place of the one that
this process stored before it. Each has a name of its own, and the older one is only deleted once the newer one is stored: so
a leader that executes and deletes the older one at that moment never deletes a request that it has not seen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from anyio import CapacityLimiter, to_thread

from services.core.domain import Command
from services.core.errors import StoreError
from services.core.inbox import Inbox

log = structlog.get_logger()
T = TypeVar("T")
R = TypeVar("R")
STORE_TIMEOUT_SECONDS: Final = 0.4
"""To store a command: the rest of Label Studio's second is for the network."""
_STORE_THREADS: Final = 64
"""Threads to store commands; of their own, so that none waits for a large /predict."""
_MAX_WRITES: Final = 1000
"""Writes that may wait for a thread while the store is slow."""
_LEADER_SECONDS: Final = 1.0
"""Until the leader reads a command, and longer: a younger one is taken to be waiting, which saves a request per write."""
_MAX_PROJECTS: Final = 1000
"""Limit of projects whose last TRAIN is remembered: project ids in events are not authenticated."""


@dataclass(slots=True)
class _Write:
    """A command to be stored, and the requests that wait for it."""

    command: Command
    stored: asyncio.Future[str]
    waiting: int = 0


class CommandWriter:
    """Stores commands in threads. Used from one event loop."""

    def __init__(
        self, inbox: Inbox, wake: Callable[[], None], seconds: float = STORE_TIMEOUT_SECONDS
    ) -> None:
        """`wake` is called when a command was stored; `seconds`: how long a request waits for that."""
        self._inbox = inbox
        self._wake = wake
        self._seconds = seconds
        self._limiter: CapacityLimiter | None = None
        self._next: dict[Hashable, _Write] = {}
        """Commands that no thread has taken yet: by project for TRAINs without parameters, by id for all others."""
        self._writers: dict[Hashable, asyncio.Task[None]] = {}
        self._deletions: set[asyncio.Task[None]] = set()
        self._trains: dict[int, Command] = {}
        """By project, the TRAIN without parameters that was stored last."""

    async def submit(self, command: Command) -> str:
        """Store the command; return the id under which it is stored, which several requests may share.

        Raises StoreError if that fails or takes too long; then it may still be stored later.
        """
        write = self._join(command)
        write.waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                stored = await asyncio.shield(write.stored)
        except TimeoutError as error:
            raise StoreError(
                f"The command could not be stored within {self._seconds} s: the store is slow. Try again."
            ) from error
        finally:
            write.waiting -= 1
        log.info(
            "command_stored",
            project=command.project_id,
            command=stored,
            action=command.action,
            asked_by=command.asked_by,
        )
        return stored

    def _join(self, command: Command) -> _Write:
        """Return the write that will store the command."""
        key: Hashable = command.project_id if command.is_plain_train else command.id
        if known := self._next.get(key):
            known.command = command.superseding(known.command)
            return known
        if key not in self._writers:
            if len(self._writers) >= _MAX_WRITES:
                raise StoreError("Too many commands wait to be stored: the store is slow. Try again.")
            self._writers[key] = asyncio.create_task(self._write_all(key))
        write = self._next[key] = _Write(command, asyncio.get_running_loop().create_future())
        return write

    async def _write_all(self, key: Hashable) -> None:
        """Store the commands of a key one after the other, until none has come meanwhile."""
        try:
            while write := self._next.pop(key, None):  # from here on, requests join the next write
                await self._write(write)
        finally:
            del self._writers[key]

    async def _write(self, write: _Write) -> None:
        try:
            replaced = await self._in_thread(self._store, write)
        except Exception as error:  # noqa: BLE001  # raised again by each request that waits
            write.stored.set_exception(error)
            return
        write.stored.set_result(write.command.id)
        if replaced is not None and len(self._deletions) < _MAX_WRITES:
            deletion = asyncio.create_task(self._delete(replaced))  # the next write does not wait for it
            self._deletions.add(deletion)
            deletion.add_done_callback(self._deletions.discard)

    async def _delete(self, replaced: Command) -> None:
        with contextlib.suppress(StoreError):  # the leader closes superseded commands as well
            await self._in_thread(self._inbox.delete_command, replaced.id)

    async def _in_thread(self, work: Callable[[T], R], argument: T) -> R:
        self._limiter = self._limiter or CapacityLimiter(_STORE_THREADS)
        return await to_thread.run_sync(work, argument, abandon_on_cancel=True, limiter=self._limiter)

    def _store(self, write: _Write) -> Command | None:
        """Store the command, unless no request waits for it any more; return the waiting one that it replaces. Raises StoreError."""
        command = write.command
        if not write.waiting:
            raise StoreError("The command came too late to be stored.")
        if not command.is_plain_train:
            self._inbox.add_command(command)
            self._wake()
            return None
        before = self._trains.get(command.project_id)
        is_old = before is not None and command.created_at - before.created_at > _LEADER_SECONDS
        if before is not None and is_old and not self._still_waits(before):
            before = None
        command = command if before is None else command.superseding(before)
        self._inbox.add_command(command)
        self._remember(command)
        self._wake()
        return before

    def _still_waits(self, command: Command) -> bool:
        """Return whether the leader has not closed it yet; True if that is unknown: deleting it once more does no harm."""
        try:
            return self._inbox.has_command(command.id)
        except StoreError:
            return True

    def _remember(self, command: Command) -> None:
        if len(self._trains) >= _MAX_PROJECTS:
            self._trains.clear()
        self._trains[command.project_id] = command
