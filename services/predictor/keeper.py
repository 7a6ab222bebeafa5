"""What this process holds: the versions that the table names, loaded before they are asked for.

A thread reads the table every second. When a project gets a target, `reload` loads it beside what is held; `rolling`
leaves that to the pods that replace this one, which load current and target before they are ready. What cannot be loaded
is refused, and said; the other projects are served on. Once ready, a process stays so whatever becomes of the bucket.
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
from services.core.errors import CorruptVersion, EngineError, FitloopError, NotFound, Overloaded, StoreError
from services.core.table import ServingTable
from services.engine.held import Name
from services.engine.inference import LocalInference
from services.predictor import metrics
from services.predictor.crashes import Crashes

log = structlog.get_logger()
UNUSABLE: Final = (EngineError, CorruptVersion, NotFound)
READ_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 60.0
"""Between tries of a version that was refused: somebody may have mended it."""


def named(table: Serving) -> frozenset[Name]:
    """Every version that the table names, as current, previous or target."""
    return frozenset(
        (key, version)
        for key, served in table.projects.items()
        for version in (served.current, served.previous, served.target)
        if version
    )


def wanted(table: Serving, most: int) -> list[Name]:
    """What is to be loaded before it is asked for: every target, then what serves, the newest first, as far as it fits."""
    targets = [(key, served.target) for key, served in table.projects.items() if served.target]
    newest = sorted(table.projects.items(), key=lambda item: item[1].since, reverse=True)
    currents = [(key, served.current) for key, served in newest if served.current]
    return [*targets, *currents[: max(1, most - len(targets))]]


@dataclass
class Keeper:
    """Keeps what is served in memory. `start`, then `stop`."""

    inference: LocalInference
    table: ServingTable
    mode: Literal["rolling", "reload"]
    most: int
    crashes: Crashes
    clock: Callable[[], float] = time.monotonic
    ready: bool = False
    refused: dict[Name, str] = field(default_factory=dict)
    _tried: dict[Name, float] = field(default_factory=dict)
    _named: frozenset[Name] = frozenset()
    _named_before: frozenset[Name] = frozenset()
    _read: bool = False
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Read and load in a thread; returns at once."""
        self._thread = threading.Thread(target=self._loop, name="keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the load that is going on."""
        self._over.set()
        self._thread.join(5)

    def may_serve(self, project_key: str, version: str) -> bool:
        """Whether the table names the version, or named it last: nothing else is loaded for whoever asks."""
        name = (project_key, version)
        return name in self._named or name in self._named_before or name in self.inference.held()

    def told(self, project_key: str) -> str | None:
        """The version that the project serves now."""
        served = self.table.last.projects.get(project_key)
        return served.at(time.time()) if served else None

    def state(self) -> dict[str, Any]:
        """What the leader asks for, as JSON."""
        held: dict[str, list[str]] = {}
        for key, version in self.inference.held():
            held.setdefault(key, []).append(version)
        refused: dict[str, dict[str, str]] = {}
        for (key, version), reason in dict(self.refused).items():
            refused.setdefault(key, {})[version] = reason
        last = self.table.last
        return {
            "format": FORMAT,
            "table": [last.term, last.generation],
            "mode": self.mode,
            "ready": self.ready,
            "held": held,
            "refused": refused,
        }

    def turn(self) -> None:
        """Read the table, and load what is missing. Raises StoreError where the bucket does not answer."""
        table = self.table.read()
        self._read = True
        self._note(named(table))
        if self.mode == "rolling" and self.ready:
            return
        missing = [name for name in wanted(table, self.most) if self._is_due(name)]
        for name in missing:
            self._load(name)
        if not self.ready and all(self._is_settled(name) for name in wanted(table, self.most)):
            self.ready = True
            log.info("ready", held=len(self.inference.held()), refused=len(self.refused))

    def _loop(self) -> None:
        while not self._over.is_set():
            try:
                self.turn()
            except FitloopError as error:
                log.warning("the table of what is served cannot be read", reason=str(error))
            except Exception as error:  # noqa: BLE001  # the thread that loads must outlive any slip
                log.error("a turn failed unexpectedly", kind=type(error).__name__, reason=str(error))
            self._over.wait(READ_SECONDS)

    def _note(self, now: frozenset[Name]) -> None:
        if now != self._named:
            self._named_before, self._named = self._named, now
            for name in self._named_before - now:
                self.inference.drop(*name)
            for name in [name for name in self.refused if name not in now]:
                del self.refused[name]
        metrics.holds(len(self.inference.held()), len(self.refused))

    def _is_due(self, name: Name) -> bool:
        if name in self.refused:
            return self.clock() - self._tried.get(name, 0.0) >= _AGAIN_SECONDS
        return name not in self.inference.held()

    def _is_settled(self, name: Name) -> bool:
        return name in self.refused or name in self.inference.held()

    def _load(self, name: Name) -> None:
        began, self._tried[name] = self.clock(), self.clock()
        try:
            with self.crashes.watched(*name):
                self.inference.prepare(*name)
        except UNUSABLE as error:
            self.refused[name] = str(error)
            metrics.loaded("refused")
            log.error("a version was refused", project=name[0], version=name[1], reason=str(error))
        except (StoreError, Overloaded) as error:
            metrics.loaded("failed")
            log.warning("a version is not loaded yet", project=name[0], version=name[1], reason=str(error))
        else:
            self.refused.pop(name, None)
            metrics.loaded("loaded")
            log.info("loaded", project=name[0], version=name[1], seconds=round(self.clock() - began, 2))
