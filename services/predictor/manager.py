"""Keep the versions that the serving table names loaded, ahead of requests.

One thread reads the table twice a second, another one loads. When a project gets a target, `reload` loads it beside the
loaded versions; `rolling` leaves that to new pods, which load current and target before they are ready. A version that
cannot be loaded is refused and reported; the other projects are served. Once ready, a process stays ready whatever happens
to the bucket, and loads on demand what did not fit or was evicted.
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
    UNUSABLE_VERSION,
    FitloopError,
    Overloaded,
    UnknownFormat,
)
from services.core.retry import LogOnce
from services.core.serving_table import ServingTableReader
from services.core.telemetry.correlation import log_ids
from services.core.telemetry.logs import safe_traceback
from services.engine.compute import VersionKey
from services.engine.inference import LocalInference
from services.predictor import metrics

log = structlog.get_logger()
READ_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 60.0
"""Until a refused version, which may have been repaired, or an evicted one is loaded again."""
VersionsByProject = dict[str, frozenset[str]]
"""Versions by project key."""


def named_versions(table: Serving) -> VersionsByProject:
    """Return every version that the table names, as current, previous or target."""
    return {
        key: frozenset(filter(None, (served.current, served.previous, served.target)))
        for key, served in table.projects.items()
    }


def targets(table: Serving) -> list[VersionKey]:
    """Return the versions being rolled out."""
    return [VersionKey(key, served.target) for key, served in table.projects.items() if served.target]


def currents(table: Serving) -> list[VersionKey]:
    """Return the current versions, the newest first."""
    newest = sorted(table.projects.items(), key=lambda item: item[1].since, reverse=True)
    return [VersionKey(key, served.current) for key, served in newest if served.current]


@dataclass
class ModelManager:
    """Loads versions ahead of requests. `start`, then `stop`."""

    inference: LocalInference
    table: ServingTableReader
    mode: Literal["rolling", "reload"]
    clock: Callable[[], float] = time.monotonic
    ready: bool = False
    _refused: dict[VersionKey, str] = field(default_factory=dict)
    _delayed: dict[VersionKey, str] = field(default_factory=dict)
    _settled: set[VersionKey] = field(default_factory=set)
    """Loaded once, refused, or left to on-demand loading: readiness does not wait for them."""
    _retry_at: dict[VersionKey, float] = field(default_factory=dict)
    _named: VersionsByProject = field(default_factory=dict)
    _named_last: VersionsByProject = field(default_factory=dict)
    _problem: LogOnce = field(default_factory=LogOnce)
    _read: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start reading and loading in threads."""
        for name, step in (("table", self.read_table), ("loads", self.load_missing)):
            thread = threading.Thread(target=self._loop, args=(step,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Start no further load."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(1)

    def may_serve(self, project_key: str, version: str) -> bool:
        """Return whether the table names the version, or named it before its last change: no other version is loaded."""
        known = (self._named.get(project_key, frozenset()), self._named_last.get(project_key, frozenset()))
        return any(version in versions for versions in known)

    def effective_version(self, project_key: str) -> str | None:
        """Return the version that the project serves now."""
        served = self.table.last.projects.get(project_key)
        return served.effective_version(time.time()) if served else None

    def state(self) -> dict[str, Any]:
        """Return what the leader reads at /state, as JSON."""
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
        """Return the refused versions, both by this manager and by requests."""
        by_requests = {
            key: str(error)
            for key, error in self.inference.refusals().items()
            if isinstance(error, UNUSABLE_VERSION) and key.version in self._named.get(key.project_key, ())
        }
        return by_requests | dict(self._refused)

    def read_table(self) -> None:
        """Read the table. Raises StoreError if the bucket is unreachable."""
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
        """Load missing versions one after the other, and become ready once none is missing."""
        if not self._read.is_set():
            return
        table = self.table.last
        if not self.ready or self.mode == "reload":
            for key in targets(table):
                self._load_version(key)
            for key in currents(table):
                self._load_if_room(key)
        if not self.ready and self._settled.issuperset([*targets(table), *currents(table)]):
            self.ready = True
            log.info("predictor_ready", loaded=len(self.inference.loaded()), refused=len(self._refused))

    def _loop(self, step: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                step()
            except FitloopError as error:
                if self._problem.is_new(str(error)):
                    log.warning("serving_table_unreadable", reason=str(error))
            except Exception as error:  # noqa: BLE001  # the threads must survive any bug
                log.error("loop_error", frames=safe_traceback(error))
            else:
                if step == self.read_table and self._problem.resolved():
                    log.info("serving_table_readable")
            self._stopped.wait(READ_SECONDS)

    def _forget(self, project_key: str, versions: frozenset[str]) -> None:
        for version in versions:
            key = VersionKey(project_key, version)
            self.inference.evict(*key)
            self._settled.discard(key)
            for known in (self._refused, self._delayed, self._retry_at):
                known.pop(key, None)

    def _loaded_by_project(self) -> dict[str, list[str]]:
        loaded: dict[str, list[str]] = {}
        for project_key, version in self.inference.loaded():
            loaded.setdefault(project_key, []).append(version)
        return loaded

    def _load_if_room(self, key: VersionKey) -> None:
        """Load a current version if it fits without eviction; else requests load it on demand."""
        if key in self._settled and key not in self._refused:
            return
        try:
            has_room = self.inference.has_room(*key)
        except FitloopError as error:
            self._record_failure(key, error)
            return
        if has_room:
            self._load_version(key)
        else:
            self._settled.add(key)

    def _load_version(self, key: VersionKey) -> None:
        now = self.clock()
        if self._stopped.is_set() or key in self.inference.loaded() or now < self._retry_at.get(key, now):
            return
        try:
            self.inference.prepare(*key)
        except FitloopError as error:
            self._record_failure(key, error)
        else:
            self._refused.pop(key, None)
            self._delayed.pop(key, None)
            self._settle_until_retry(key)
            metrics.count_load("loaded", self.clock() - now)
            log.info("version_loaded", **log_ids(*key), seconds=round(self.clock() - now, 2))
        if key.version not in self._named.get(key.project_key, ()):  # it was withdrawn meanwhile
            self._forget(key.project_key, frozenset({key.version}))

    def _settle_until_retry(self, key: VersionKey) -> None:
        self._settled.add(key)
        self._retry_at[key] = self.clock() + _RETRY_SECONDS

    def _record_failure(self, key: VersionKey, error: FitloopError) -> None:
        reason = str(error)
        if isinstance(error, UnknownFormat):  # the version may be good: a newer predictor can load it
            reason = f"this predictor is older than the version: {reason}"
            self._settle_until_retry(key)
        if isinstance(error, UNUSABLE_VERSION):
            self._refused[key] = reason
            self._settle_until_retry(key)
            metrics.count_load("refused")
            log.error("version_refused", **log_ids(*key), reason=reason)
            return
        if self._delayed.get(key) != reason:
            log.warning("version_load_delayed", **log_ids(*key), reason=reason)
        if isinstance(error, Overloaded):
            self._settled.add(key)  # it is loaded as soon as there is memory
        self._delayed[key] = reason
        metrics.count_load("failed")


def _by_project(reasons: dict[VersionKey, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for (project_key, version), reason in reasons.items():
        found.setdefault(project_key, {})[version] = reason
    return found
