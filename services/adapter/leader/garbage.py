"""Carries out `fitloop gc`: workers look for what may be deleted and delete it; the leader's thread decides on each version.

Between the look and the deletion a version may have been promoted. So the leader's thread, which alone changes the serving
table, compares each version with the table in memory and deletes its manifest itself: no promotion can come in between, and
one that comes later is refused, because the version no longer exists. One command is carried out at a time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final

import structlog

from services.adapter.leader.encoders import EncoderCollector
from services.adapter.leader.workers import Finished, Workers
from services.adapter.state.documents import NotLeading
from services.adapter.state.gc_reports import (
    DRY_RUN,
    MAX_ROWS,
    GcReport,
    GcReportFile,
    ReportedLeftover,
    ReportedProject,
)
from services.adapter.training.survey import Leftover, StoredProject, remove_all, survey
from services.core.domain import Action, Command
from services.core.errors import FitloopError
from services.core.inbox import Inbox
from services.core.parallel import in_parallel
from services.core.settings import StorageSettings
from services.core.store import ObjectStore
from services.core.telemetry.logs import unexpected_error_message

log = structlog.get_logger()
_WORK: Final = "gc"
_BATCH: Final = 32
"""Leftovers that are decided on and deleted together."""
_SERVED: Final = "it is served, was served last, or is being rolled out by now"


def take_gc_commands(commands: dict[int, list[Command]]) -> list[Command]:
    """Remove the GC commands, and return them, oldest first."""
    found = [command for given in commands.values() for command in given if command.action is Action.GC]
    for project_id in {command.project_id for command in found}:
        commands[project_id] = [one for one in commands[project_id] if one.action is not Action.GC]
        if not commands[project_id]:
            del commands[project_id]
    return sorted(found, key=lambda command: command.id)


@dataclass(slots=True)
class GcJob:
    """A command that is being carried out."""

    command: Command
    projects: list[StoredProject] = field(default_factory=list)
    left: deque[tuple[str, Leftover]] = field(default_factory=deque)
    """What is not decided yet, with the project's key."""
    kept: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why something was not deleted, by the project's key and its name."""
    problem: str = ""
    encoders_begun: bool = False
    """Whether encoders are being looked at, or nothing asks for that."""

    @property
    def is_dry(self) -> bool:
        return DRY_RUN in self.command.parameters

    def found(self, projects: list[StoredProject]) -> None:
        """Continue with what the survey has found."""
        self.projects = projects
        if not self.is_dry:
            self.left.extend(
                (stored.project, leftover) for stored in projects for leftover in stored.leftovers
            )

    def failed(self, error: Exception) -> None:
        """End early: what is left is found by the next command."""
        self.problem = str(error) if isinstance(error, FitloopError) else unexpected_error_message(error)
        self.kept |= {(key, leftover.name): "not deleted, or not whole" for key, leftover in self.left}
        self.left.clear()

    def report(self, encoders: Sequence[ReportedLeftover], now: float) -> GcReport:
        """Return what was done."""
        totals, rows = Counter[str](), list[ReportedProject]()
        for encoder in encoders:
            totals.update({"deleted": not encoder.kept, "freed": 0 if encoder.kept else encoder.size})
        for stored in self.projects:
            listed = []
            for leftover in stored.leftovers:
                kept = self.kept.get((stored.project, leftover.name), "")
                totals.update({"deleted": not kept, "freed": 0 if kept else leftover.size, "rows": 1})
                if totals["rows"] <= MAX_ROWS:
                    listed.append(ReportedLeftover(leftover.name, leftover.why, leftover.size, kept))
            sizes = stored.versions, stored.runs
            rows.append(ReportedProject(stored.project, stored.title, *sizes, stored.orphaned, tuple(listed)))
        return GcReport(
            self.command.id,
            self.command.project_id,
            self.is_dry,
            self.command.asked_by,
            now,
            tuple(rows),
            totals["deleted"],
            totals["freed"],
            tuple(encoders[:MAX_ROWS]),
            max(0, totals["rows"] - MAX_ROWS),
            self.problem,
        )


@dataclass(slots=True)
class GarbageCollector:
    """Carries out one GC command after the other. Only the leader's thread may call it."""

    store: ObjectStore
    settings: StorageSettings
    inbox: Inbox
    workers: Workers
    encoders: EncoderCollector
    is_kept: Callable[[str, str], bool]
    """Whether a project's version is served, was served last, or is being rolled out, by the table in memory."""
    term: Callable[[], int] = lambda: 0
    _job: GcJob | None = None

    def step(self, commands: Sequence[Command], now: float) -> None:
        """Continue the command in progress, or begin with the oldest. Raises NotLeading, StoreError: then it is repeated."""
        if self._job is None:
            if not commands:
                return
            self._job = GcJob(commands[0])
            work = partial(survey, self.store, self.settings, now, commands[0].project_id)
            self.workers.submit(_WORK, work, partial(self._surveyed, self._job))
        job = self._job
        while job.left and not self.workers.is_busy(_WORK):
            self._decide(job, now)
        if not self.workers.is_busy(_WORK) and self._has_seen_encoders(job, now):
            self._finish(job, now)

    def _has_seen_encoders(self, job: GcJob, now: float) -> bool:
        """Have encoders looked at once the rest is done, since deleted versions need none; return whether that is done as well."""
        if job.command.project_id or job.problem:
            return True
        if job.encoders_begun:
            return not self.encoders.is_busy
        read = {one.project: one.encoders for one in job.projects if one.encoders}
        job.encoders_begun = self.encoders.begin(now, dry_run=job.is_dry, learned=read)
        return False

    def _surveyed(self, job: GcJob, finished: Finished[list[StoredProject]]) -> None:
        if isinstance(finished.error, NotLeading):
            raise finished.error
        if finished.error is not None:
            job.failed(finished.error)
        else:
            job.found(finished.result())

    def _decide(self, job: GcJob, now: float) -> None:
        """Have the next leftovers deleted, unless they are served by now. Raises StoreError, and then they are still the next."""
        batch = [*islice(job.left, _BATCH)]
        served = {
            (key, one.name): _SERVED for key, one in batch if one.version and self.is_kept(key, one.version)
        }
        chosen = [(key, one) for key, one in batch if (key, one.name) not in served]
        manifests = [one.keys[0] for _, one in chosen if one.version and not one.interrupted]
        in_parallel(self.store.delete, manifests)  # without it the version does not exist
        job.kept |= served
        for _ in batch:
            job.left.popleft()
        work = partial(remove_all, self.store, [one for _, one in chosen], now)
        self.workers.submit(_WORK, work, partial(self._removed, job, chosen))

    def _removed(
        self, job: GcJob, batch: Sequence[tuple[str, Leftover]], finished: Finished[list[str]]
    ) -> None:
        if isinstance(finished.error, NotLeading):
            raise finished.error  # the next leader carries it out
        if finished.error is not None:
            job.left.extendleft(reversed(batch))
            job.failed(finished.error)
            return
        for (key, leftover), kept in zip(batch, finished.result(), strict=True):
            if kept:
                job.kept[key, leftover.name] = kept
            else:
                log.info("leftover_deleted", key=key, name=leftover.name, reason=leftover.why)

    def _finish(self, job: GcJob, now: float) -> None:
        encoders = self.encoders.leftovers() if job.encoders_begun else ()
        job.problem = job.problem or (self.encoders.problem if job.encoders_begun else "")
        report = job.report(encoders, now)
        GcReportFile(self.store).add(report, self.term())
        verb = "would be deleted" if job.is_dry else "deleted"
        reason = f"{report.deleted} {verb}, {report.freed / 1e6:.1f} MB"
        self.inbox.close_command(job.command, report.problem or reason)
        self._job = None
