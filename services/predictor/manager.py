"""Keep the versions that the serving table names loaded, ahead of requests.

One thread reads the table twice a second, and when the leader asks for the state; another one loads, some versions at once. When a
project gets a target, `reload` loads it beside the loaded versions; so does `rolling` if its encoder is in memory, and leaves others to
new pods, which load current and target before they are ready. A version that cannot be loaded is refused and reported; the other
projects are served. Once ready, a process stays ready whatever happens to the bucket, and loads on demand what did not fit or was evicted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

import structlog

from services.core.documents import FORMAT
from services.core.errors import UNUSABLE_VERSION, FitloopError, Overloaded, UnknownFormat
from services.core.retry import LogOnce
from services.core.serving_table import ServingTableReader
from services.core.telemetry.correlation import log_ids
from services.core.telemetry.logs import safe_traceback
from services.engine.cache import NoRoom
from services.engine.compute import VersionKey
from services.mlbackend.workers import START_SECONDS, StillStarting
from services.predictor import metrics
from services.predictor.inference import VersionInference
from services.predictor.named import (
    VersionsByProject,
    currents,
    named_versions,
    reasons_by_project,
    targets,
)

log = structlog.get_logger()
READ_SECONDS: Final = 0.5
_SPACING_SECONDS: Final = 0.05
"""Between two reads of the table, however often the state is asked for."""
_RETRY_SECONDS: Final = 60.0
"""Until a refused version, which may have been repaired, or an evicted one is loaded again."""


@dataclass
class ModelManager:
    """Loads versions ahead of requests. `start`, then `stop`."""

    inference: VersionInference
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
    _asked: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Event = field(default_factory=threading.Event)
    """The table names other versions than before."""
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start reading and loading in threads."""
        loops = {"table": (self.read_table, self._asked), "loads": (self.load_missing, self._changed)}
        for name, args in loops.items():
            thread = threading.Thread(target=self._loop, args=args, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Start no further load."""
        for event in (self._stopped, self._asked, self._changed):
            event.set()
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

    def read_table_soon(self) -> None:
        """Have the table read now: whoever asks for the state waits for a version. Never blocks."""
        self._asked.set()

    def state(self) -> dict[str, Any]:
        """Return what the leader reads at /state, as JSON."""
        last = self.table.last
        return {
            "format": FORMAT,
            "table": [last.term, last.generation],
            "mode": self.mode,
            "ready": self.ready,
            "held": self._loaded_by_project(),
            "encoders": self.inference.loaded_encoders(),
            "refused": reasons_by_project(self.refusals()),
            "delayed": reasons_by_project(dict(self._delayed)),
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
        is_changed, self._named = now != self._named, now
        self._read.set()
        if is_changed:
            self._changed.set()

    def load_missing(self) -> None:
        """Load missing versions, and become ready once none is missing. Targets may evict what is not in use."""
        if not self._read.is_set():
            return
        table = self.table.last
        if not self.ready or self.mode == "reload":
            self._load_all(targets(table), may_evict=True)
            self._load_all(currents(table), may_evict=False)
        else:
            self._load_all(targets(table), may_evict=False, may_load=False)
        if not self.ready and self._settled.issuperset([*targets(table), *currents(table)]):
            self.ready = True
            log.info("predictor_ready", loaded=len(self.inference.loaded()), refused=len(self._refused))

    def _loop(self, step: Callable[[], None], due: threading.Event) -> None:
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
            self._stopped.wait(_SPACING_SECONDS)
            due.wait(READ_SECONDS)
            due.clear()

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

    def _load_all(self, keys: list[VersionKey], *, may_evict: bool, may_load: bool = True) -> None:
        """Load these versions in their order, so that the first ones get the memory. Heads, small reads that wait for the bucket, are read together before."""
        now, loaded, again = self.clock(), set(self.inference.loaded()), may_evict or not may_load
        self._settled |= loaded & set(keys)
        due = [key for key in keys if key not in loaded and self._is_due(key, now, again=again)]
        self.inference.read_heads(due)
        prepare = partial(
            self.inference.prepare, may_evict=may_evict, may_load=may_load, seconds=START_SECONDS
        )
        for key in due:
            self._record(key, *self._prepare(key, prepare))

    def _is_due(self, key: VersionKey, now: float, *, again: bool) -> bool:
        """Return whether to try now. A current version that was loaded, or did not fit, is left to requests."""
        is_left_to_requests = not again and key in self._settled and key not in self._refused
        return not is_left_to_requests and now >= self._retry_at.get(key, now)

    def _prepare(
        self, key: VersionKey, prepare: Callable[[str, str], None]
    ) -> tuple[FitloopError | None, float]:
        began = self.clock()
        if self._stopped.is_set():
            return Overloaded("This process is shutting down: try again in a moment."), 0.0
        try:
            prepare(*key)
        except FitloopError as error:
            return error, self.clock() - began
        return None, self.clock() - began

    def _record(self, key: VersionKey, error: FitloopError | None, seconds: float) -> None:
        if isinstance(error, NoRoom):
            self._settled.add(key)
        elif isinstance(error, StillStarting):
            self._delayed[key] = str(error)  # nothing is settled: it is asked for again by the next step
        elif error:
            self._record_failure(key, error)
        else:
            self._refused.pop(key, None)
            self._delayed.pop(key, None)
            self._settle_until_retry(key)
            metrics.count_load("loaded", seconds)
            log.info("version_loaded", **log_ids(*key), seconds=round(seconds, 2))
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
