"""gc.json: what the last `fitloop gc` commands have deleted, or would delete. The leader writes it; any replica may read it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.core import documents
from services.core.documents import FORMAT, Extensible
from services.core.errors import NotFound, UnknownFormat, UnreadableDocument
from services.core.store import ObjectStore

log = structlog.get_logger()
GC_KEY: Final = "gc.json"
DRY_RUN: Final = "dry_run"
"""The parameter of a GC command that deletes nothing."""
_MAX_REPORTS: Final = 10
MAX_ROWS: Final = 1000
"""Things that one report lists."""


@dataclass(frozen=True, slots=True)
class ReportedLeftover:
    """A version, a run or an encoder that was found."""

    name: str
    why: str
    size: int
    """In bytes."""
    kept: str = ""
    """Why it was not deleted after all; "" if it was, or in a dry run would be."""


@dataclass(frozen=True, slots=True)
class ReportedProject:
    """What one project has in the store, in bytes, and what was found of it."""

    project: str
    title: str
    versions: int
    runs: int
    orphaned: str = ""
    """Why it is no longer connected, and so left alone; "" for a connected one."""
    leftovers: tuple[ReportedLeftover, ...] = ()


@dataclass(frozen=True, slots=True)
class GcReport:
    """The result of one command."""

    command: str
    project_id: int = 0
    """0: all projects."""
    dry_run: bool = False
    asked_by: str = ""
    at: float = 0.0
    projects: tuple[ReportedProject, ...] = ()
    deleted: int = 0
    """Versions, runs, folders of checkpoints and encoders; in a dry run, those that would be."""
    freed: int = 0
    """Their bytes."""
    encoders: tuple[ReportedLeftover, ...] = ()
    """Encoders that no version needs."""
    left_off: int = 0
    """How many more leftovers there were than the report lists."""
    problem: str = ""
    """Why it ended early; "" if it did not."""


@dataclass(frozen=True, slots=True)
class GcReports(Extensible):
    """gc.json."""

    reports: tuple[GcReport, ...] = ()
    """The newest last."""
    term: int = 0
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class GcReportFile:
    """gc.json in the store."""

    store: ObjectStore = field(repr=False)

    def find(self, command: str) -> GcReport | None:
        """Return the report of a command; None if there is none. Raises StoreError."""
        return next((one for one in self._read().reports if one.command == command), None)

    def add(self, report: GcReport, term: int) -> None:
        """Store a report beside the last few. Raises StoreError."""
        try:
            known = self._read()
        except UnknownFormat as error:  # the work is done, and logged
            log.warning("document_skipped", key=GC_KEY, reason=str(error))
            return
        except UnreadableDocument:
            known = GcReports()
        reports = (*(one for one in known.reports if one.command != report.command), report)
        changed = replace(known, reports=reports[-_MAX_REPORTS:], term=term)
        self.store.write(GC_KEY, documents.dump(changed))

    def _read(self) -> GcReports:
        try:
            return documents.load(GcReports, self.store.read(GC_KEY), GC_KEY)
        except NotFound:
            return GcReports()
