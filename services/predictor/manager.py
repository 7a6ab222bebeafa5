"""What this process holds: the versions that the table names, loaded before they are asked for.

One thread reads the table twice a second, another one loads. When a project gets a target, `reload` loads it beside what is
held; `rolling` leaves that to the pods that replace this one, which load current and target before they are ready. What
cannot be loaded is refused, and said; the other projects are served on. Once ready, a process stays so whatever becomes of
the bucket, and loads on demand what had no room or has left memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import structlog

from services.core.documents import FORMAT
from services.core.domain import Serving
from services.core.errors import (
    CorruptVersion,
    EngineError,
    FitloopError,
    NotFound,
    Overloaded,
    UnknownFormat,
)
from services.core.registry import ServingTable
from services.core.telemetry.correlation import log_ids
from services.core.telemetry.tracebacks import safe_traceback
from services.engine.compute import VersionKey
from services.engine.inference import LocalInference
from services.predictor import metrics

log = structlog.get_logger()
UNUSABLE: Final = (EngineError, CorruptVersion, NotFound)
"""What says that a version is bad; any other error is trouble that passes."""
READ_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 60.0
"""Until a version is tried again that was refused, because somebody may have mended it, or that has left memory."""
VersionsByProject = dict[str, frozenset[str]]
"""By project key."""


def named_versions(table: Serving) -> VersionsByProject:
    """Every version that the table names, as current, previous or target."""
    return {
        key: frozenset(filter(None, (served.current, served.previous, served.target)))
        for key, served in table.projects.items()
    }


def targets(table: Serving) -> list[VersionKey]:
    """What is about to be served."""
    return [(key, served.target) for key, served in table.projects.items() if served.target]


def currents(table: Serving) -> list[VersionKey]:
    """What serves, the newest first."""
    newest = sorted(table.projects.items(), key=lambda item: item[1].since, reverse=True)
    return [(key, served.current) for key, served in newest if served.current]


@dataclass
class ModelManager:
    """Keeps what is served in memory. `start`, then `stop`."""

    inference: LocalInference
    table: ServingTable
    mode: Literal["rolling", "reload"]
    clock: Callable[[], float] = time.monotonic
    ready: bool = False
    _refused: dict[VersionKey, str] = field(default_factory=dict)
    _delayed: dict[VersionKey, str] = field(default_factory=dict)
    _settled: set[VersionKey] = field(default_factory=set)
    """Loaded once, refused, or left to be loaded on demand: readiness waits no longer for it."""
    _retry_at: dict[VersionKey, float] = field(default_factory=dict)
    _named: VersionsByProject = field(default_factory=dict)
    _named_last: VersionsByProject = field(default_factory=dict)
    _error: str = ""
    _read: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Read and load in threads; returns at once."""
        for name, step in (("table", self.read_table), ("loads", self.load_missing)):
            thread = threading.Thread(target=self._loop, args=(step,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Begin no load any more."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(1)

    def may_serve(self, project_key: str, version: str) -> bool:
        """Whether the table names the version, or named it last: nothing else is loaded for whoever asks."""
        known = (self._named.get(project_key, frozenset()), self._named_last.get(project_key, frozenset()))
        return any(version in versions for versions in known)

    def effective_version(self, project_key: str) -> str | None:
        """The version that the project serves now."""
        served = self.table.last.projects.get(project_key)
        return served.effective_version(time.time()) if served else None

    def state(self) -> dict[str, Any]:
        """What the leader asks for, as JSON."""
        last = self.table.last
        return {
            "format": FORMAT,
            "table": [last.term, last.generation],
            "mode": self.mode,
            "ready": self.ready,
            "held": self._loaded_by_project(),
            "refused": _by_project(self.refusals()),
            "delayed": _by_project(dict(self._delayed)),
        }

    def refusals(self) -> dict[VersionKey, str]:
        """What was refused here, and to those who asked for it."""
        asked = {
            name: str(error)
            for name, error in self.inference.refusals().items()
            if isinstance(error, UNUSABLE) and name[1] in self._named.get(name[0], ())
        }
        return asked | dict(self._refused)

    def read_table(self) -> None:
        """Read the table. Raises StoreError where the bucket does not answer."""
        now = named_versions(self.table.read())
        for key in self._named.keys() | now.keys():
            versions = now.get(key, frozenset())
            before = self._named.get(key, frozenset())
            if versions != before:
                self._named_last[key] = before if versions else frozenset()
                self._forget(key, before - versions)
        self._named = now
        self._read.set()

    def load_missing(self) -> None:
        """Load what is missing, one after the other, and see whether that is all."""
        if not self._read.is_set():
            return
        table = self.table.last
        if not self.ready or self.mode == "reload":
            for name in targets(table):
                self._load_version(name)
            for name in currents(table):
                self._load_if_room(name)
        if not self.ready and self._settled.issuperset([*targets(table), *currents(table)]):
            self.ready = True
            log.info("ready", held=len(self.inference.loaded()), refused=len(self._refused))

    def _loop(self, step: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                step()
            except FitloopError as error:
                self._log_read_error(str(error))
            except Exception as error:  # noqa: BLE001  # the threads must outlive any slip
                log.error("a turn failed unexpectedly", frames=safe_traceback(error))
            else:
                if step == self.read_table:
                    self._log_read_error("")
            self._stopped.wait(READ_SECONDS)

    def _log_read_error(self, trouble: str) -> None:
        """Once for each kind of trouble, not each second."""
        if trouble and trouble != self._error:
            log.warning("the table of what is served cannot be read", reason=trouble)
        elif self._error and not trouble:
            log.info("the table of what is served can be read again")
        self._error = trouble

    def _forget(self, key: str, versions: frozenset[str]) -> None:
        for version in versions:
            name = (key, version)
            self.inference.evict(*name)
            self._settled.discard(name)
            for known in (self._refused, self._delayed, self._retry_at):
                known.pop(name, None)

    def _loaded_by_project(self) -> dict[str, list[str]]:
        held: dict[str, list[str]] = {}
        for key, version in self.inference.loaded():
            held.setdefault(key, []).append(version)
        return held

    def _load_if_room(self, name: VersionKey) -> None:
        """What serves but has no room beside what is held, or has left memory, is left to whoever asks for it."""
        if name in self._settled and name not in self._refused:
            return
        try:
            has_room = self.inference.has_room(*name)
        except FitloopError as error:
            self._record_failure(name, error)
            return
        if has_room:
            self._load_version(name)
        else:
            self._settled.add(name)

    def _load_version(self, name: VersionKey) -> None:
        now = self.clock()
        if self._stopped.is_set() or name in self.inference.loaded() or now < self._retry_at.get(name, now):
            return
        try:
            self.inference.prepare(*name)
        except FitloopError as error:
            self._record_failure(name, error)
        else:
            self._refused.pop(name, None)
            self._delayed.pop(name, None)
            self._settle_until_retry(name)
            metrics.count_load("loaded", self.clock() - now)
            log.info("loaded", **log_ids(*name), seconds=round(self.clock() - now, 2))
        if name[1] not in self._named.get(name[0], ()):  # it was withdrawn meanwhile
            self._forget(name[0], frozenset({name[1]}))

    def _settle_until_retry(self, name: VersionKey) -> None:
        self._settled.add(name)
        self._retry_at[name] = self.clock() + _RETRY_SECONDS

    def _record_failure(self, name: VersionKey, error: FitloopError) -> None:
        reason = str(error)
        if isinstance(error, UnknownFormat):  # the version may be good: a newer predictor knows
            reason = f"this predictor is older than the version: {reason}"
            self._settle_until_retry(name)
        if isinstance(error, UNUSABLE):
            self._refused[name] = reason
            self._settle_until_retry(name)
            metrics.count_load("refused")
            log.error("a version was refused", **log_ids(*name), reason=reason)
            return
        if self._delayed.get(name) != reason:
            log.warning("a version is not loaded yet", **log_ids(*name), reason=reason)
        if isinstance(error, Overloaded):
            self._settled.add(name)  # it is loaded as soon as there is room
        self._delayed[name] = reason
        metrics.count_load("failed")


def _by_project(reasons: dict[VersionKey, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for (key, version), reason in reasons.items():
        found.setdefault(key, {})[version] = reason
    return found
